"""A broker in memory, in virtual time, for the real stages and the real edge session: streams, leases, stop messages.

Every delivery takes a random time, but entries of one stream come in order, as they do from the broker. A worker can be
killed in the middle of anything; its leases go to another after a while, with the next fence.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from shared.bus.bus import Channel
from shared.bus.leases import Lease
from shared.bus.reader import EntryCallback
from shared.protocol.entry_id import order
from shared.protocol.frames import Frame, SettingsChanged, codec
from shared.protocol.session import Message, SessionSettings
from shared.protocol.streams import JOBS, ROUTES, Keys, StreamKind
from shared.protocol.turn_record import TurnRecord
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown
from shared.worker.worker import Stage, Worker

Entry = tuple[str, int, list[Frame]]
_STAGE_OF = {place: stage for stage, place in JOBS.items()}


class SimulatedBus:
    """What `shared.bus.bus.Bus` offers, as far as stages and sessions use it."""

    def __init__(self, chance: random.Random, delay_s: tuple[float, float]) -> None:
        self.keys = Keys()
        self.chance, self._delay_s = chance, delay_s
        self.loop = asyncio.get_running_loop()
        self.writer = SimpleNamespace(backlog=0, drain=self._drain)
        self.on_job: Callable[[str, bytes, str, Frame], None] = lambda stage, stream, entry_id, frame: None
        self.on_stop: list[Callable[[str, int, int, bool], None]] = []
        self.clock = SimpleNamespace(now_ms=self.now_ms)
        self.turns: list[TurnRecord] = []
        self.checkpoints: dict[bytes, bytes] = {}
        self._streams: dict[bytes, list[Entry]] = {}
        self._subscriptions: dict[bytes, list[SimulatedSubscription]] = {}
        self._settings: dict[str, bytes] = {}
        self._history: dict[str, tuple[Message, ...]] = {}
        self._number = 0

    async def _drain(self) -> None:
        pass

    def delay_s(self) -> float:
        """In whole milliseconds: what arrives within one is handled in one turn of the event loop, as from a socket."""
        return round(self.chance.uniform(*self._delay_s), 3)

    # -- streams ----------------------------------------------------------------------------------

    def channel(self, stage: str, session: str, fence: int = 1) -> "SimulatedChannel":
        return SimulatedChannel(self, stage, session, fence)

    def add(self, place: StreamKind, session: str, fence: int, frame: Frame) -> None:
        """Append one entry."""
        key = self.keys.stream(place, session)
        self._number += 1
        entry_id = f"{self.now_ms()}-{self._number}"
        if place in _STAGE_OF:
            self.on_job(_STAGE_OF[place], key, entry_id, frame)
            return
        self._streams.setdefault(key, []).append((entry_id, fence, [frame]))
        for subscription in self._subscriptions.get(key, ()):
            subscription.schedule()

    def follow(self, place: StreamKind, session: str, after: str, deliver: EntryCallback) -> "SimulatedSubscription":
        key = self.keys.stream(place, session)
        entries = self._streams.setdefault(key, [])
        start = next((at for at, entry in enumerate(entries) if order(entry[0]) > order(after)), len(entries))
        subscription = SimulatedSubscription(self, key, entries, start, deliver)
        self._subscriptions.setdefault(key, []).append(subscription)
        subscription.schedule()
        return subscription

    def unfollow(self, subscription: "SimulatedSubscription") -> None:
        followers = self._subscriptions.get(subscription.key, [])
        if subscription in followers:
            followers.remove(subscription)

    async def log(self, place: StreamKind, session: str, after: str = "-") -> list[tuple[int, list[Frame]]]:
        await asyncio.sleep(self.delay_s())
        return [(fence, frames) for _, fence, frames in self._streams.get(self.keys.stream(place, session), ())]

    # -- a session's keys -------------------------------------------------------------------------

    def save_settings(self, session: str, settings: SessionSettings, packed: bytes) -> None:
        self._settings[session] = codec.entry([codec.encode(SettingsChanged(settings))])

    def save_history(self, session: str, messages: Sequence[Message]) -> None:
        self._history[session] = tuple(messages)

    async def conversation(self, session: str) -> tuple[bytes | None, tuple[Message, ...]]:
        await asyncio.sleep(self.delay_s())
        found = self._settings.get(session), self._history.get(session, ())
        await asyncio.sleep(self.delay_s())
        return found

    async def checkpoint(self, session: str) -> bytes | None:
        await asyncio.sleep(self.delay_s())
        return self.checkpoints.get(self.keys.session(session))

    async def session_lives(self, session: str) -> bool:
        return True

    def keep_alive(self, session: str) -> None:
        pass

    def keep_turn(self, record: TurnRecord) -> None:
        self.turns.append(record)

    def now_ms(self) -> int:
        """The broker's clock."""
        return 1_000_000 + int(self.loop.time() * 1000)

    def dead_letter(self, stage: str, source: bytes, entry_id: str, body: bytes, error: str) -> None:
        raise AssertionError(f"{stage} gave up: {error}")

    def stop(self, session: str, turn: int, revision: int, *, only: bool = False) -> None:
        for on_stop in self.on_stop:
            self.loop.call_later(self.delay_s(), on_stop, session, turn, revision, only)


class SimulatedSubscription:
    """See `shared.bus.reader.Subscription`."""

    def __init__(self, bus: SimulatedBus, key: bytes, entries: list[Entry], at: int, deliver: EntryCallback) -> None:
        self._bus, self.key, self._entries, self.at, self._deliver = bus, key, entries, at, deliver
        self._due = self._closed = False

    def schedule(self) -> None:
        if not self._due and not self._closed and self.at < len(self._entries):
            self._due = True
            self._bus.loop.call_later(self._bus.delay_s(), self._pump)

    def _pump(self) -> None:
        self._due = False
        while self.at < len(self._entries) and not self._closed:
            entry = self._entries[self.at]
            self.at += 1
            self._deliver(*entry)

    def close(self) -> None:
        self._closed = True
        self._bus.unfollow(self)


class SimulatedChannel(Channel):
    """See `shared.bus.bus.Channel`: the same routes, to streams in memory."""

    __slots__ = ("dead", "memory")

    def __init__(self, bus: SimulatedBus, stage: str, session: str, fence: int) -> None:
        super().__init__(bus, stage, session, fence)  # type: ignore[arg-type]
        self.memory, self.dead = bus, False

    def publish(self, frame: Frame, *, urgent: bool = True) -> None:
        if not self.dead:
            for place in ROUTES[self._stage][type(frame)]:
                self.memory.add(place, self._session, self.fence, frame)


class SimulatedLeases:
    """See `shared.bus.leases.Leases`: who holds which work, by its fence."""

    def __init__(self, bus: SimulatedBus) -> None:
        self._bus = bus
        self.fences: dict[str, int] = {}

    def commit(
        self, lease: Lease, channel: SimulatedChannel, session_key: bytes, frames: Sequence[Frame],
        on_reply: Callable[[Any], None], *, done: bool, checkpoint: bytes = b"",
    ) -> None:  # fmt: skip
        if channel.dead:
            return
        if self.fences.get(lease.id) != lease.fence:
            self._bus.loop.call_soon(on_reply, 0)
            return
        for frame in frames:
            channel.publish(frame)
        if checkpoint:
            self._bus.checkpoints[session_key] = checkpoint
        if done:
            del self.fences[lease.id]
        self._bus.loop.call_soon(on_reply, 1)

    async def hand_back(self, leases: Sequence[Lease]) -> None:
        pass


class SimulatedStage:
    """The workers of one stage: one at a time, killed now and then."""

    def __init__(
        self, stage: Stage, settings: Settings, bus: SimulatedBus, tasks: asyncio.TaskGroup, kill_chance: float,
        lease_s: float,
    ) -> None:  # fmt: skip
        self.stage, self._settings, self._bus, self._tasks = stage, settings, bus, tasks
        self._kill_chance, self._lease_s = kill_chance, lease_s
        self._leases = SimulatedLeases(bus)
        self.kills = 0
        self._worker = self._hire()
        bus.on_stop.append(lambda *message: self._worker._on_stop(*message))  # noqa: SLF001 - the subscription's callback

    @property
    def in_hand(self) -> int:
        """Slots that are taken."""
        return int(self._worker.load()["in_hand"])

    @property
    def leases(self) -> dict[str, int]:
        """Work that is not done: its entry and its fence."""
        return self._leases.fences

    def _hire(self) -> Worker:
        return Worker(self.stage, self._settings, Shutdown(0), self._bus, self._leases)  # type: ignore[arg-type]

    def take(self, stream: bytes, entry_id: str, frame: Frame, fence: int = 1) -> None:
        """Work has come, or has come back."""
        self._bus.loop.call_later(self._bus.delay_s(), self._begin, Lease(stream, entry_id, fence, frame))

    def _begin(self, lease: Lease) -> None:
        self._leases.fences[lease.id] = lease.fence
        self._worker._begin(self._tasks, lease)  # noqa: SLF001 - as the producer does
        if self._bus.chance.random() < self._kill_chance and lease.fence < self._settings.max_deliveries:
            self._bus.loop.call_later(self._bus.chance.uniform(0, 0.6), self._kill, lease.id)

    def _kill(self, lease_id: str) -> None:
        """The process that holds this lease dies, or (one in four) hangs for a while and writes on as a zombie."""
        if lease_id not in self._leases.fences:
            return
        self.kills += 1
        dead, self._worker = self._worker, self._hire()
        zombie = self._bus.chance.random() < 0.25
        for work in tuple(dead._in_hand.values()):  # noqa: SLF001 - what a dying process leaves
            if not zombie:
                work._channel.dead = True  # type: ignore[attr-defined]  # noqa: SLF001 - nothing leaves it any more
                work.stop("lost")
            lease = work.lease
            if self._leases.fences.get(lease.id) == lease.fence:
                self._leases.fences[lease.id] = lease.fence + 1
                self._bus.loop.call_later(
                    self._lease_s, self.take, lease.stream, lease.id, lease.frame, lease.fence + 1
                )
