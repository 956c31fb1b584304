"""What a client of `/ws` has received of its session: with it, the session is resumed after a lost connection."""

from dataclasses import dataclass, field
from typing import Any

SAMPLE_BYTES = 2


@dataclass(slots=True)
class Received:
    """Fed with every message of the server, in order."""

    token: str = field(default="", repr=False)
    """Empty: the session cannot be resumed."""
    n: int = 0
    """Number of the newest event."""
    turn: int = 0
    """The turn of the newest reply."""
    samples: int = 0
    """Samples received of that reply."""

    def audio(self, pcm: bytes) -> None:
        self.samples += len(pcm) // SAMPLE_BYTES

    def message(self, message: dict[str, Any]) -> None:
        if message["type"] == "ready":
            self.token = message.get("resume", {}).get("token", "")
            if not message.get("resumed"):
                self.n = self.turn = self.samples = 0
        elif message["type"] == "reply_started":
            self.turn, self.samples = message["turn"], 0
        self.n = message.get("n", self.n)

    def fields(self) -> dict[str, Any]:
        """What `start_streaming` has to say to resume the session; nothing for a new one."""
        if not self.token:
            return {}
        return {"resume": self.token, "received": {"n": self.n, "turn": self.turn, "samples": self.samples}}
