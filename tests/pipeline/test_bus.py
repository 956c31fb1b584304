"""The bus, its leases and the worker, on real brokers of both kinds."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio as redis

from deploy.local.broker import Program, answers, broker_argv, find_program, private_folder, socket_url
from shared.bus.bus import Bus
from shared.bus.connection import BrokerGone, BrokerRefused
from shared.bus.leases import Leases, stage_status
from shared.protocol.frames import (
    Frame,
    InputCleared,
    PlayedOut,
    ReplySentence,
    StageFailed,
    TranscriptFinal,
    VoiceDone,
    codec,
)
from shared.protocol.session import ReplyOptions, SessionSettings
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.lifecycle import Shutdown, with_broker
from shared.worker.work import Work
from shared.worker.worker import Worker
from tests.conftest import need
from tests.support.broker import embedded_broker
from tests.support.waiting import HANG_S, until

LEASE_MS = 1000
"""No shorter: a busy machine may keep a worker from renewing its lease for half a second."""


@pytest_asyncio.fixture(params=["redis-server", "bundled valkey"])
async def broker(request: pytest.FixtureRequest) -> AsyncIterator[tuple[Settings, asyncio.subprocess.Process]]:
    """A fresh broker, and the settings that lead to it."""
    path = str(Path(need("redis-server")).parent) if request.param == "redis-server" else ""
    program: Program = await find_program(path, lambda reason: None)
    with private_folder() as folder:
        process = await asyncio.create_subprocess_exec(*broker_argv(program, folder))
        try:
            async with asyncio.timeout(HANG_S):
                while not await answers(folder):
                    await asyncio.sleep(0.01)
            yield Settings(redis_url=socket_url(folder), lease_ms=LEASE_MS), process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@pytest.fixture
def where(broker: tuple[Settings, asyncio.subprocess.Process]) -> Settings:
    return broker[0]


def sentence(session: str = "s", turn: int = 1) -> ReplySentence:
    return ReplySentence(session, turn, 0, 0, "Hello.", "", 1.0, "en")


async def test_frames_come_in_order_to_everyone_who_follows(where: Settings) -> None:
    async with Bus.connect(where, "edge") as writer, Bus.connect(where, "tts") as reader:
        channel = writer.channel("edge", "s")
        heard: list[list[tuple[str, Frame]]] = [[], []]

        sent = [PlayedOut(turn, 0, 0, 0) for turn in range(300)]
        reader.follow(
            StreamKind.OUT, "s", "0-0", lambda at, _, frames: heard[0].extend((at, frame) for frame in frames)
        )
        await asyncio.sleep(0.05)  # it blocks by now: what follows must wake it
        for frame in sent[:100]:
            channel.publish(frame, urgent=frame.turn % 3 == 0)
        await until(lambda: len(heard[0]) == 100)
        middle = heard[0][49][0]
        reader.follow(
            StreamKind.OUT, "s", middle, lambda at, _, frames: heard[1].extend((at, frame) for frame in frames)
        )
        for frame in sent[100:]:
            channel.publish(frame, urgent=False)
        await until(lambda: len(heard[0]) == 300 and heard[1] and heard[1][-1][1] == sent[-1])
        assert [frame for _, frame in heard[0]] == sent
        assert [pair for pair in heard[0] if pair[0] not in {at for at, _ in heard[1]}] == heard[0][: -len(heard[1])]


async def test_a_lease_that_was_taken_over_can_do_nothing_any_more(where: Settings) -> None:
    async with Bus.connect(where, "tts") as slow, Bus.connect(where, "tts") as other:
        first, second = Leases(slow, "tts", LEASE_MS), Leases(other, "tts", LEASE_MS)
        await first.open()
        await second.open()
        slow.channel("llm", "s").publish(sentence())
        (lease,) = await first.take(4)
        assert lease.fence == 1
        assert await second.sweep(4) == []
        await first.renew([lease])
        while not (swept := await second.sweep(4)):
            await asyncio.sleep(LEASE_MS / 10_000)
        (taken,) = swept
        assert (taken.id, taken.fence, taken.frame) == (lease.id, 2, lease.frame)
        assert await first.renew([lease]) == {lease.id}
        assert await second.renew([taken]) == set()
        replies: list[Any] = []
        key = slow.keys.session("s")
        slow.save_settings("s", SessionSettings())  # a checkpoint does not bring back a session that is gone
        await slow.call(b"XADD", slow.keys.stream(StreamKind.OUT, "s"), b"*", b"f", b"")
        for leases, bus, held in ((first, slow, lease), (second, other, taken)):
            channel = bus.channel("tts", "s", held.fence)
            leases.commit(held, channel, key, [VoiceDone(1, 0, 0, 5)], replies.append, done=True, checkpoint=b"here")
            await until(lambda: replies)
            assert replies.pop() == (1 if held is taken else 0)
            assert await bus.checkpoint("s") == (b"here" if held is taken else None)
        assert await slow.call(b"XLEN", slow.keys.stream(StreamKind.OUT, "s")) == 2
        assert (await stage_status(slow, "tts")).in_hand == 0


async def test_what_is_handed_back_is_taken_at_once(where: Settings) -> None:
    async with Bus.connect(where, "tts") as bus, Bus.connect(where, "tts") as other:
        first, second = Leases(bus, "tts", 60_000), Leases(other, "tts", 60_000)
        await first.open()
        await second.open()
        bus.channel("llm", "s").publish(sentence())
        held = await first.take(1)
        await first.hand_back(held)
        (taken,) = await second.sweep(1)
        assert taken.fence == 2


class Stage:
    """Does with its work what the test says."""

    name, long_lived, interruptible = "tts", False, True

    def __init__(self, do: Callable[[Work], Awaitable[Sequence[Frame]]], slots: int = 4) -> None:
        self.work, self.slots = do, slots

    async def load(self) -> None: ...

    def info(self) -> dict[str, Any]:
        return {"engine": "test"}

    async def close(self) -> None: ...


async def test_work_that_fails_is_tried_again_then_set_aside_and_the_session_is_told(where: Settings) -> None:
    attempts: list[int] = []

    async def fail(work: Work) -> Sequence[Frame]:
        attempts.append(work.attempt)
        raise RuntimeError("no voice")

    received: list[Frame] = []
    shutdown = Shutdown(1)
    async with Bus.connect(where, "tts") as bus, Bus.connect(where, "edge") as edge, asyncio.TaskGroup() as tasks:
        await edge.call(b"XADD", edge.keys.stream(StreamKind.OUT, "s"), b"*", b"x", b"")
        edge.follow(StreamKind.OUT, "s", "0-0", lambda at, _, frames: received.extend(frames))
        running = tasks.create_task(Worker(Stage(fail), where, shutdown, bus, Leases(bus, "tts", where.lease_ms)).run())
        bus.channel("llm", "s").publish(sentence())
        await until(lambda: any(isinstance(frame, StageFailed) for frame in received))
        assert attempts == [1, 2, 3]
        assert await edge.call(b"XLEN", edge.keys.dead("tts")) == 1
        shutdown.request()
        await asyncio.wait([running], timeout=HANG_S)
        assert running.done()


async def test_a_stop_message_ends_work_that_nobody_needs_and_shutdown_finishes_the_rest(where: Settings) -> None:
    begun: list[int] = []
    ended: list[tuple[int, str]] = []
    go_on = asyncio.Event()

    async def speak(work: Work) -> Sequence[Frame]:
        begun.append(work.turn)
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            ended.append((work.turn, str(work.ended)))
            raise
        ended.append((work.turn, "done"))
        return ()

    shutdown = Shutdown(5)
    async with Bus.connect(where, "tts") as bus, asyncio.TaskGroup() as tasks:
        running = tasks.create_task(
            Worker(Stage(speak), where, shutdown, bus, Leases(bus, "tts", where.lease_ms)).run()
        )
        for turn in (1, 2):
            bus.channel("llm", "s").publish(sentence(turn=turn))
        await until(lambda: len(begun) == 2)
        bus.stop("s", 2, 0)
        await until(lambda: ended)
        assert ended == [(1, "stale")]
        assert (await stage_status(bus, "tts")).workers
        shutdown.request()
        await asyncio.sleep(0.05)
        assert not running.done()
        go_on.set()
        await asyncio.wait([running], timeout=HANG_S)
        assert ended[1:] == [(2, "done")]
        status = await stage_status(bus, "tts")
        assert (status.in_hand, status.workers) == (0, ())


async def test_the_death_of_the_broker_ends_every_wait_and_the_next_one_is_used(
    broker: tuple[Settings, asyncio.subprocess.Process],
) -> None:
    where, process = broker
    path = Path(where.redis_url.get_secret_value().removeprefix("unix://")) if where.redis_url else Path()
    program = await find_program(os.environ["PATH"], lambda reason: None)
    shutdown = Shutdown(1)
    lives = asyncio.Queue[int](10)
    failures: list[Exception] = []

    async def body(bus: Bus) -> None:
        lives.put_nowait(1)
        if lives.qsize() == 1:
            try:
                while True:
                    await bus.call(b"PING")
                    await asyncio.sleep(0.01)
            except BrokerGone as error:
                failures.append(error)
                raise
        await bus.call(b"SET", b"alive", b"yes")

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(with_broker(where, "tts", shutdown, body))
        await until(lambda: lives.qsize() == 1)
        process.kill()
        await process.wait()
        await asyncio.sleep(0.3)
        successor = await asyncio.create_subprocess_exec(*broker_argv(program, path.parent))
        try:
            await asyncio.wait([running], timeout=HANG_S)
            assert running.done()
            async with redis.Redis.from_url(f"unix://{path}") as client:
                assert await client.get("alive") == b"yes"
        finally:
            successor.kill()
            await successor.wait()


async def test_who_meets_a_full_broker_waits_until_there_is_room(tmp_path: Path) -> None:
    async with embedded_broker(tmp_path / "data") as settings:
        assert settings.redis_url is not None
        shutdown, served = Shutdown(1), asyncio.Event()

        async def body(bus: Bus) -> None:
            await Leases(bus, "tts", 1000).open()
            served.set()
            await shutdown.stopping.wait()

        async with redis.Redis.from_url(settings.redis_url.get_secret_value()) as client, asyncio.timeout(HANG_S):
            async with Bus.connect(settings, "tts") as bus:
                await client.config_set("maxmemory", 1)
                with pytest.raises(BrokerGone, match="OOM"):
                    await bus.call("SET", "parley:test", "1")
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(with_broker(settings, "tts", shutdown, body))
                await asyncio.sleep(0.3)
                assert not served.is_set()
                await client.config_set("maxmemory", 0)
                await served.wait()
                shutdown.request()


async def test_an_old_broker_is_refused_by_name(tmp_path: Path) -> None:
    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        info = b"# Server\r\nredis_version:6.2.14\r\n"
        while line := await reader.readline():
            if line.strip().upper() in (b"SETNAME", b"INFO"):
                writer.write(b"+OK\r\n" if b"SETNAME" in line else b"$%d\r\n%s\r\n" % (len(info), info))
                await writer.drain()
        writer.close()
        await writer.wait_closed()
        over.set()

    over = asyncio.Event()
    server = await asyncio.start_unix_server(old, tmp_path / "old.sock")
    async with server:
        settings = Settings(redis_url=f"unix://{tmp_path / 'old.sock'}")
        with pytest.raises(BrokerRefused, match=r"Redis 6\.2\.14 is too old: Redis >= 7\.0 or Valkey >= 7\.2"):
            await with_broker(settings, "tts", Shutdown(1), lambda bus: asyncio.sleep(0))
        await over.wait()


async def test_nobody_there_is_said_at_once() -> None:
    shutdown = Shutdown(1)
    asyncio.get_running_loop().call_later(0.2, shutdown.request)
    settings = Settings(redis_url="redis://127.0.0.1:1")
    async with asyncio.timeout(HANG_S):
        await with_broker(settings, "tts", shutdown, lambda bus: asyncio.sleep(0))


NOT_WORK: list[tuple[Frame, ...]] = [
    (InputCleared(),),
    (VoiceDone(1, 0, 0, 5),),
    (TranscriptFinal("s", 1, 0, "Hello.", ReplyOptions()),),  # work of another stage
    (sentence(), sentence()),
]


@pytest.mark.parametrize("frames", NOT_WORK, ids=lambda frames: "+".join(type(frame).__name__ for frame in frames))
async def test_whole_frames_that_are_not_work_of_this_stage_are_set_aside_and_the_worker_goes_on(
    where: Settings, frames: tuple[Frame, ...]
) -> None:
    done: list[int] = []

    async def speak(work: Work) -> Sequence[Frame]:
        done.append(work.turn)
        return ()

    shutdown = Shutdown(1)
    async with Bus.connect(where, "tts") as dead, Bus.connect(where, "tts") as bus, asyncio.TaskGroup() as tasks:
        stream = bus.keys.stream(StreamKind.JOBS_TTS, "s")
        group = Leases(dead, "tts", LEASE_MS)
        await group.open()
        for _ in range(2):
            await bus.call(b"XADD", stream, b"*", b"f", codec.entry([codec.encode(frame) for frame in frames]))
        # One of them was handed to a worker that died: it comes back by a takeover.
        await dead.call(b"XREADGROUP", b"GROUP", b"tts", dead.consumer, b"COUNT", 1, b"STREAMS", stream, b">")
        running = tasks.create_task(Worker(Stage(speak), where, shutdown, bus, Leases(bus, "tts", LEASE_MS)).run())
        bus.channel("llm", "s").publish(sentence(turn=7))
        await until(lambda: done)
        async with asyncio.timeout(HANG_S):
            while (await stage_status(bus, "tts")).in_hand:
                await asyncio.sleep(0.01)
        letters = await bus.call(b"XRANGE", bus.keys.dead("tts"), b"-", b"+")
        errors = {dict(zip(fields[::2], fields[1::2], strict=True))[b"error"].decode() for _, fields in letters}
        kinds = ", ".join(type(frame).__name__ for frame in frames)
        assert (len(letters), errors) == (2, {f"not a job of stage tts: {kinds}"})
        assert await bus.call(b"XLEN", stream) == 0
        assert not running.done()
        shutdown.request()
    assert done == [7]
