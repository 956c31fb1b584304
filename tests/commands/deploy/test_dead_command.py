"""`parley dead`: lists, shows, retries and deletes the jobs that stages have given up, on a real broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from typer.testing import CliRunner

from deploy.cli.__main__ import app
from services.edge.gateway.session import end_session
from shared.bus.bus import Bus
from shared.bus.leases import Leases
from shared.protocol.frames import Frame, ReplySentence, SessionStarted, StageFailed, VoiceDone, codec
from shared.protocol.session import SessionSettings
from shared.protocol.streams import StreamKind
from shared.settings import load_settings
from shared.worker.lifecycle import Shutdown
from shared.worker.work import Work
from shared.worker.worker import Worker
from tests.support.broker import embedded_broker
from tests.support.waiting import until

SESSION = "5e55"
SAID = ReplySentence(SESSION, 1, 0, 0, "Something private.", "", 1.0, "en")


async def parley_dead(*arguments: str) -> tuple[int, str, str]:
    result = await asyncio.to_thread(CliRunner().invoke, app, ["dead", *arguments])
    return result.exit_code, result.stdout, result.stderr


async def letters(*arguments: str) -> list[dict[str, Any]]:
    code, out, _ = await parley_dead("list", "--json", *arguments)
    assert code == 0
    found: list[dict[str, Any]] = json.loads(out)
    return found


@pytest_asyncio.fixture
async def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    """A broker that the command finds, with one live session."""
    async with embedded_broker(tmp_path) as settings, Bus.connect(settings, "edge") as connected:
        assert settings.redis_url is not None
        monkeypatch.setenv("PARLEY_REDIS_URL", settings.redis_url.get_secret_value())
        monkeypatch.setenv("COLUMNS", "200")
        load_settings.cache_clear()
        connected.save_settings(SESSION, SessionSettings())
        connected.channel("edge", SESSION).publish(SessionStarted(SESSION, SessionSettings()))
        yield connected
        load_settings.cache_clear()


def give_up(bus: Bus, job: Frame = SAID, stage: str = "tts") -> None:
    bus.dead_letter(stage, bus.keys.jobs(stage), "1-0", codec.entry([codec.encode(job)]), "RuntimeError: no voice")


class FailsOnce:
    """A stage that gives up its first job."""

    name, long_lived, interruptible, slots = "tts", False, True, 4

    def __init__(self) -> None:
        self.done: list[Frame] = []
        self.failures = 0

    async def work(self, work: Work) -> Sequence[Frame]:
        if not self.failures:
            self.failures += 1
            raise RuntimeError("no voice")
        self.done.append(work.frame)
        return [VoiceDone(1, 0, 0, 5)]

    async def load(self) -> None: ...
    def info(self) -> dict[str, Any]:
        return {"engine": "test"}

    async def close(self) -> None: ...


async def test_a_job_that_a_worker_gave_up_is_listed_shown_and_done_once_more(bus: Bus) -> None:
    settings = load_settings().model_copy(update={"max_deliveries": 1})
    stage, shutdown, log = FailsOnce(), Shutdown(1), list[Frame]()
    bus.follow(StreamKind.OUT, SESSION, "0-0", lambda at, _, frames: log.extend(frames))
    async with Bus.connect(settings, "tts") as workers, asyncio.TaskGroup() as tasks:
        tasks.create_task(Worker(stage, settings, shutdown, workers, Leases(workers, "tts", 1000)).run())
        bus.channel("llm", SESSION).publish(SAID)
        await until(lambda: any(isinstance(frame, StageFailed) for frame in log))
        (letter,) = await letters()
        assert (letter["session"], letter["job"], letter["error"]) == (
            SESSION,
            "ReplySentence",
            "RuntimeError: no voice",
        )
        code, out, _ = await parley_dead("list")
        assert code == 0
        assert letter["name"] in out
        assert "private" not in out
        code, out, _ = await parley_dead("show", letter["name"])
        assert code == 0
        assert "Something private." in out
        assert await parley_dead("retry", letter["name"]) == (0, f"{letter['name']} was put back\n", "")
        await until(lambda: stage.done == [SAID])
        code, _, errors = await parley_dead("retry", letter["name"])
        assert code == 1
        assert "there is no dead letter" in errors
        assert await letters() == []
        shutdown.request()


async def test_a_job_whose_session_has_ended_stays(bus: Bus) -> None:
    give_up(bus)
    give_up(bus, ReplySentence("unknown", 1, 0, 0, "Hello.", "", 1.0, "en"))
    end_session(bus, SESSION, "left")
    for letter in await letters():
        code, out, _ = await parley_dead("retry", letter["name"])
        assert (code, out) == (1, f"{letter['name']} was not put back: its session has ended\n")
    assert len(await letters()) == 2
    assert await bus.call(b"XLEN", bus.keys.jobs("tts")) == 0


async def test_what_is_no_job_cannot_be_done_again(bus: Bus) -> None:
    bus.dead_letter("edge", bus.keys.stream(StreamKind.OUT, SESSION), "1-0", b"\xc1 no frame", "not a frame")
    give_up(bus, VoiceDone(1, 0, 0, 5))
    names = [letter["name"] for letter in await letters()]
    assert [letter["session"] for letter in await letters("--stage", "edge")] == [SESSION]
    code, out, _ = await parley_dead("retry", *names)
    assert code == 1
    assert out.count("is not a job that can be done again") == 2


async def test_letters_are_deleted_by_name_by_stage_and_all(bus: Bus) -> None:
    for _ in range(2):
        give_up(bus)
    give_up(bus, stage="llm")
    first = (await letters("--stage", "tts"))[0]["name"]
    assert (await parley_dead("drop", first))[:2] == (0, f"{first} was deleted\n")
    assert (await parley_dead("drop", first))[0] == 1
    assert (await parley_dead("drop"))[0] == 2
    assert (await parley_dead("drop", "--all", "--stage", "tts"))[:2] == (0, "1 dead letters were deleted\n")
    assert len(await letters()) == 1
    assert (await parley_dead("drop", "--all"))[0] == 0
    assert (await parley_dead("list"))[1] == "there are no dead letters\n"


async def test_a_broker_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    load_settings.cache_clear()
    monkeypatch.setenv("PARLEY_REDIS_URL", "redis://127.0.0.1:1")
    code, _, errors = await parley_dead("list")
    load_settings.cache_clear()
    assert code == 1
    assert "no broker at 127.0.0.1:1" in errors
