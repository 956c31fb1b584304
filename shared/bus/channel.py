"""A channel: publishes the frames of one stage about one session, each to the streams of its route."""

from typing import NamedTuple, Protocol

from shared.protocol.frames import Frame, codec
from shared.protocol.streams import MAXLEN, ROUTES, SESSION_TTL_S, SHARED, Keys, StreamKind


class Target(NamedTuple):
    """A stream to append to."""

    key: bytes
    maxlen: int
    """Approximate number of entries at which it is trimmed."""
    create: bool
    """False: append only if the stream exists."""
    life_s: int = 0
    """A stream that is created expires after this time, unless an edge keeps it alive; 0: never."""


class Guard(NamedTuple):
    """The lease under which frames are published. Once another worker has it, nothing is appended."""

    jobs: bytes
    """The stream of the job."""
    stage: str
    id: str


class Appender(Protocol):
    """The part of the bus that a channel writes to: see `Commands`."""

    @property
    def keys(self) -> Keys: ...
    def append(self, target: Target, packed: bytes, fence: int, guard: Guard | None, *, urgent: bool) -> None: ...
    def limit_life(self, target: Target) -> None: ...


class Channel:
    """Publishes one stage's frames about one session, routed by `shared.protocol.streams.ROUTES`."""

    __slots__ = ("_bus", "_guard", "_session", "_stage", "_targets", "fence")

    def __init__(self, bus: Appender, stage: str, session: str, fence: int, guard: Guard | None = None) -> None:
        self._bus, self._stage, self._session, self.fence, self._guard = bus, stage, session, fence, guard
        self._targets: dict[type[Frame], list[Target]] = {}

    def targets(self, kind: type[Frame]) -> list[Target]:
        """Return the streams that a frame of this type goes to.

        Raises:
            KeyError: this stage does not publish such frames.
        """
        found = self._targets.get(kind)
        if found is None:
            found = self._targets[kind] = [
                Target(
                    self._bus.keys.stream(stream, self._session),
                    MAXLEN[stream],
                    # Only the edge creates a session's log: a late frame must not recreate it after the session's end.
                    create=self._stage == "edge" or stream is not StreamKind.OUT,
                    life_s=0 if stream in SHARED else SESSION_TTL_S,
                )
                for stream in ROUTES[self._stage][kind]
            ]
        return found

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        """Append the frame to its streams: in this event-loop iteration or, if not urgent, within `gather_ms`."""
        packed = codec.encode(frame)
        is_first = type(frame) not in self._targets
        for target in self.targets(type(frame)):
            # Only the log is guarded: workers that read another stream drop entries of an older fence themselves.
            self._bus.append(target, packed, self.fence, None if target.create else self._guard, urgent=urgent)
            if is_first and target.create and target.life_s:
                self._bus.limit_life(target)
