"""Who is at the other end of a connection, and what it may do."""

from dataclasses import dataclass

from services.edge.access.client_secrets import ClientSecret
from services.edge.access.denied import Denied
from services.edge.access.keys import Key
from shared.agents.agent import Agents


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request."""

    address: str
    """IP address; behind a trusted proxy the client's own."""
    local: bool = False
    """It comes from this machine, and from no proxy."""
    key: Key | None = None
    """The key that it has shown, or that created its client secret."""
    secret: ClientSecret | None = None
    """The client secret that it has shown."""
    trusted: bool = False
    """It may add and delete voices: this machine, an operator's key, or anybody where no key is asked for."""

    @property
    def id(self) -> str:
        """Name of the caller in limits and logs: its key, or the address of a caller without a key."""
        return self.address if self.key is None else f"key {self.key.id}"

    def agents(self, all_: Agents) -> Agents:
        """The agents that it may talk with. Its default is the server's or, if that is not among them, its first.

        Raises:
            Denied: its key is for agents that do not exist.
        """
        allowed = self._allowed()
        if not allowed:
            return all_
        mine = {id_: all_.by_id[id_] for id_ in allowed if id_ in all_.by_id}
        if not mine:
            raise Denied(403, "agent_not_allowed", f"this key is for agents that do not exist: {', '.join(allowed)}")
        return Agents(mine, mine.get(all_.default.id) or next(iter(mine.values())))

    def _allowed(self) -> tuple[str, ...]:
        """The ids of the agents that it may talk with; empty: all."""
        if self.secret is not None and self.secret.agent:
            return (self.secret.agent,)
        return () if self.key is None else self.key.agents

    def check_may_create_secrets(self) -> None:
        """Raises `Denied` if it holds no more than a client secret."""
        if self.secret is not None:
            raise Denied(403, "key_needed", "a client secret cannot create another one: that needs a key")

    def check_trusted(self) -> None:
        """Raises `Denied` if it may only talk."""
        if not self.trusted:
            raise Denied(403, "operator_needed", "this needs a key that was created with --operator")
