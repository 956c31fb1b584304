"""What is measured of one turn: when its parts happened, counted from the end of speech. Pure.

Times are the broker's clock, from the ids of the log's entries, so that they can be compared across hosts.
"""

from dataclasses import dataclass, field

from shared.protocol.frames import TurnCommitted
from shared.protocol.session import RATE_HZ


@dataclass(slots=True)
class TurnReport:
    """The marks of one turn, and the trace that it belongs to."""

    trace: str = ""
    """W3C traceparent; empty: the turn is not traced."""
    spoken: bool = False
    """The person spoke, and did not type."""
    speech_end_ms: int = 0
    """Broker's clock at the end of speech; 0: not known, there are no marks."""
    _at_ms: dict[str, int] = field(default_factory=dict)

    def follow(self, trace: str) -> None:
        """The turn belongs to this trace. The first one counts: later ones are of a part of it."""
        self.trace = self.trace or trace

    def mark(self, name: str, at_ms: int) -> bool:
        """Note that this happens now, unless it has happened before. Returns whether it was the first time."""
        if name in self._at_ms:
            return False
        self._at_ms[name] = at_ms
        return True

    def forget(self, *names: str) -> None:
        """Let this count when it happens again: the turn was not over."""
        for name in names:
            self._at_ms.pop(name, None)

    def commit(self, fact: TurnCommitted, at_ms: int, *, detected: bool) -> None:
        """Take the end of the turn. The decision at `input_ms` came `decided_at - end` samples after the end of speech; where turns
        are not `detected`, the client has decided, and speech ended then."""
        self.spoken = fact.end > fact.start
        silence_ms = (fact.decided_at - fact.end) * 1000 // RATE_HZ if self.spoken and detected else 0
        self.speech_end_ms = fact.input_ms - silence_ms
        self.mark("endpoint", at_ms)

    def marks(self) -> dict[str, float]:
        """Milliseconds since the end of speech, by name."""
        if not self.speech_end_ms:
            return {}
        return {name: float(at_ms - self.speech_end_ms) for name, at_ms in self._at_ms.items()}
