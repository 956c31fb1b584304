"""A broker in memory, in virtual time, for the real stages and the real edge session: a `SessionStore`.

Every delivery takes a random time, but the entries of one stream arrive in order, as they do from the broker. Frames are
encoded and decoded as on the wire. Nothing is trimmed and nothing expires.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

from shared.audio.voices import ClonedVoice
from shared.bus.bus import StopCallback
from shared.bus.channel import Channel, Guard, Target
from shared.bus.reader import EntryCallback, Subscription
from shared.bus.records import SessionState
from shared.protocol.entry_id import order
from shared.protocol.frames import Frame, ResumePoint, SessionStarted, SettingsChanged, Summary, codec
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import JOBS, Keys, StreamKind
from shared.protocol.turn_record import TurnRecord

Entry = tuple[str, int, list[Frame]]
"""Id, fence and frames."""
OnJob = Callable[[str, bytes, str, Frame], None]
"""Takes a stage, the stream and id of an entry, and the frame of the job."""


class SimulatedBus:
    """What `shared.bus.bus.Bus` offers, as far as stages and sessions use it. It is its own clock and its own writer."""

    def __init__(self, chance: random.Random, delay_s: tuple[float, float]) -> None:
        """`delay_s`: the shortest and the longest time of a delivery."""
        self.keys = Keys()
        self.chance, self._delay_s = chance, delay_s
        self.loop = asyncio.get_running_loop()
        self.backlog = 0
        self.refusing_s = 0.0
        self.on_job: OnJob = lambda stage, stream, entry_id, frame: None
        self.on_stop: list[StopCallback] = []
        self.turns: list[TurnRecord] = []
        self.checkpoints: dict[bytes, bytes] = {}
        self.summaries: dict[str, Summary] = {}
        self._stage_of = {self.keys.jobs(stage): stage for stage in JOBS}
        self._streams: dict[bytes, list[Entry]] = {}
        self._subscriptions: dict[bytes, list[SimulatedSubscription]] = {}
        self.gone: set[str] = set()
        """Sessions whose keys have expired."""
        self._settings: dict[str, bytes] = {}
        self._history: dict[str, tuple[Message, ...]] = {}
        self._number = 0

    @property
    def clock(self) -> "SimulatedBus":
        return self

    @property
    def writer(self) -> "SimulatedBus":
        return self

    def now_ms(self) -> int:
        return 1_000_000 + int(self.loop.time() * 1000)

    async def drain(self) -> None: ...

    def delay_s(self) -> float:
        """In whole milliseconds: what arrives within one is handled in one turn of the event loop, as from a socket."""
        return round(self.chance.uniform(*self._delay_s), 3)

    # -- streams ----------------------------------------------------------------------------------

    def channel(self, stage: str, session: str, fence: int = 1, guard: Guard | None = None) -> "SimulatedChannel":
        return SimulatedChannel(self, stage, session, fence)

    def append(self, target: Target, packed: bytes, fence: int, guard: Guard | None, *, urgent: bool) -> None:
        (frame,) = codec.decode_entry(codec.entry([packed]))
        self._add(target.key, fence, frame)

    def limit_life(self, target: Target) -> None: ...

    def add(self, kind: StreamKind, session: str, fence: int, frame: Frame) -> None:
        """Append one entry, without checking the routes."""
        self._add(self.keys.stream(kind, session), fence, frame)

    def _add(self, key: bytes, fence: int, frame: Frame) -> None:
        self._number += 1
        entry_id = f"{self.now_ms()}-{self._number}"
        if stage := self._stage_of.get(key):
            self.on_job(stage, key, entry_id, frame)
            return
        self._streams.setdefault(key, []).append((entry_id, fence, [frame]))
        for subscription in self._subscriptions.get(key, ()):
            subscription.schedule()

    def follow(self, kind: StreamKind, session: str, after: str, deliver: EntryCallback) -> "SimulatedSubscription":
        key = self.keys.stream(kind, session)
        entries = self._streams.setdefault(key, [])
        start = next((at for at, entry in enumerate(entries) if order(entry[0]) > order(after)), len(entries))
        subscription = SimulatedSubscription(self, key, entries, start, deliver)
        self._subscriptions.setdefault(key, []).append(subscription)
        subscription.schedule()
        return subscription

    def unfollow(self, subscription: Subscription) -> None:
        followers = self._subscriptions.get(subscription.key, [])
        self._subscriptions[subscription.key] = [one for one in followers if one is not subscription]

    async def log(self, kind: StreamKind, session: str) -> list[tuple[int, list[Frame]]]:
        await asyncio.sleep(self.delay_s())
        return [(fence, frames) for _, fence, frames in self._streams.get(self.keys.stream(kind, session), ())]

    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None:
        raise AssertionError(f"{stage} gave up: {error}")

    # -- stop messages ----------------------------------------------------------------------------

    def stop(self, session: str, turn: int, revision: int, *, only: bool = False) -> None:
        for on_stop in self.on_stop:
            self.loop.call_later(self.delay_s(), on_stop, session, turn, revision, only)

    async def listen_for_stops(self, on_stop: StopCallback) -> None:
        self.on_stop.append(on_stop)

    # -- a session's keys -------------------------------------------------------------------------

    def save_settings(self, session: str, settings: SessionSettings) -> None:
        self._settings[session] = codec.entry([codec.encode(SettingsChanged(settings))])

    def save_history(self, session: str, messages: Sequence[Message], keys: Sequence[str] = ()) -> None:
        self._history[session] = tuple(messages)

    async def conversation(self, session: str) -> tuple[SessionSettings, tuple[Message, ...]]:
        await asyncio.sleep(self.delay_s())
        packed, messages = self._settings.get(session), self._history.get(session, ())
        await asyncio.sleep(self.delay_s())
        saved = None if packed is None else codec.decode_entry(packed)[0]
        return saved.settings if isinstance(saved, SettingsChanged) else SessionSettings(), messages

    async def summary(self, session: str) -> Summary | None:
        await asyncio.sleep(self.delay_s())
        return self.summaries.get(session)

    def save_summary(self, session: str, summary: Summary) -> None:
        self.summaries[session] = summary

    async def checkpoint(self, session: str) -> bytes | None:
        await asyncio.sleep(self.delay_s())
        return self.checkpoints.get(self.keys.session(session))

    async def session_lives(self, session: str) -> bool:
        return session not in self.gone

    def keep_alive(self, session: str) -> None: ...

    def open_line(self, session: str, line: str, token_hash: str) -> None: ...

    def save_resume_points(self, session: str, points: Sequence[ResumePoint]) -> None: ...

    def expire_soon(self, session: str) -> None: ...
    def request_listener(self, started: SessionStarted) -> None:
        self._add(self.keys.jobs("vad"), 1, started)

    def check_alive(self, session: str, on_state: Callable[[SessionState], None]) -> None: ...

    def forget(self, session: str) -> None: ...

    # -- what all sessions share ------------------------------------------------------------------

    def keep_turn(self, record: TurnRecord) -> None:
        self.turns.append(record)

    async def voice(self, name: str, known: ClonedVoice | None = None) -> ClonedVoice | None:
        return None


class SimulatedSubscription(Subscription):
    """A subscription to a stream in memory."""

    __slots__ = ("_bus", "_closed", "_due", "_entries", "at")

    def __init__(self, bus: SimulatedBus, key: bytes, entries: list[Entry], at: int, deliver: EntryCallback) -> None:
        """`at`: the index of the first entry to deliver."""
        super().__init__(bus.unfollow, key, b"", deliver)
        self._bus, self._entries, self.at = bus, entries, at
        self._due = self._closed = False

    def schedule(self) -> None:
        """EntryCallback the entries that wait, after a delivery's time."""
        if not self._due and not self._closed and self.at < len(self._entries):
            self._due = True
            self._bus.loop.call_later(self._bus.delay_s(), self._pump)

    def _pump(self) -> None:
        self._due = False
        while self.at < len(self._entries) and not self._closed:
            entry = self._entries[self.at]
            self.at += 1
            self.deliver(*entry)

    def close(self) -> None:
        self._closed = True
        super().close()


class SimulatedChannel(Channel):
    """A channel whose process can die: nothing leaves it any more."""

    __slots__ = ("dead",)

    def __init__(self, bus: SimulatedBus, stage: str, session: str, fence: int) -> None:
        super().__init__(bus, stage, session, fence)
        self.dead = False

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        if not self.dead:
            super().publish(frame, urgent=urgent)
