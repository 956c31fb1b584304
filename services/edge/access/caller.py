"""Who is at the other end of a connection, and the refusal of those who may not be there."""

from dataclasses import dataclass

from services.edge.access.keys import Key
from shared.agents.agent import Agents


class Denied(Exception):
    """The request is refused before anything is done for it: with this HTTP status, code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    address: str
    """IP address; behind a trusted proxy the client's own."""
    local: bool = False
    """It comes from this machine, and from no proxy."""
    key: Key | None = None
    """The key that it has shown."""
    trusted: bool = False
    """It may add and delete voices: this machine, an operator's key, or anybody where no key is asked for."""

    @property
    def id(self) -> str:
        """For limits and logs: the key, or the address of a caller without one."""
        return self.address if self.key is None else f"key {self.key.id}"

    def agents(self, all_: Agents) -> Agents:
        """The agents that it may talk with. Its default is the server's or, if that is not among them, its first.

        Raises:
            Denied: its key is for agents that do not exist.
        """
        if self.key is None or not self.key.agents:
            return all_
        mine = {id_: all_.by_id[id_] for id_ in self.key.agents if id_ in all_.by_id}
        if not mine:
            raise Denied(
                403, "agent_not_allowed", f"this key is for agents that do not exist: {', '.join(self.key.agents)}"
            )
        return Agents(mine, mine.get(all_.default.id) or next(iter(mine.values())))

    def check_trusted(self) -> None:
        """Raises `Denied` if it may only talk."""
        if not self.trusted:
            raise Denied(403, "operator_needed", "this needs a key that was created with --operator")
