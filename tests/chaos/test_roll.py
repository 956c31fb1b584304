"""`parley roll` under talk: every process is replaced, no turn fails, and every conversation goes on."""

import asyncio
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from deploy.local.console import PlainConsole
from deploy.local.control import NotRunning, Refused, answer_commands, ask, broker_url, socket_path
from deploy.local.roll import Roll
from deploy.local.standby import Standby
from deploy.local.supervisor import ReplaceFailed
from shared.settings import Settings
from tests.support.caller import Caller, calling
from tests.support.system import SCRIPTED, System, running_system, settings_of
from tests.support.waiting import HANG_S

TALKERS = 3
PAUSE_S = 0.3
"""Time for which a talker is silent after a reply."""
ENV = {
    **SCRIPTED,
    "PARLEY_SCRIPTED_LLM_MS": "200",
    "PARLEY_SCRIPTED_TTS_SECONDS": "0.5",
    "PARLEY_DRAIN_MS": "20000",  # a drain ends when there is nothing to wait for; the limit is for busy machines
    "PYTHONPATH": str(Path.cwd()),
}


class Talker:
    """Types turn after turn in one conversation, and resumes it when its connection is closed."""

    def __init__(self, system: System) -> None:
        self.turns = 0
        self.closes: list[int] = []
        self.faults: list[object] = []
        self._system = system

    async def talk(self, over: asyncio.Event) -> None:
        async with calling(self._system.url) as caller:
            await self._turns(caller, over)
            while not over.is_set():
                self.closes.append((await caller.until("closed"))["code"])
                async with caller.resumed(self._system.url):
                    await self._turns(caller, over)
            self.faults += [event for event in caller.of("reply_done") if event["status"] != "completed"]
            self.faults += [event for event in caller.of("error") if event["code"] != "closing"]

    async def _turns(self, caller: Caller, over: asyncio.Event) -> None:
        await asyncio.sleep(PAUSE_S)  # what was typed before the connection closed may still be taken
        while not over.is_set() and not caller.closed:
            if len(caller.of("processing_started")) == self.turns:
                with suppress(ConnectionClosed):
                    await caller.send("text_input", text="hello")
            await caller.where(
                lambda _: bool(caller.closed) or len(caller.of("reply_done")) > self.turns, HANG_S, "end of the turn"
            )
            self.turns = len(caller.of("reply_done"))
            await asyncio.sleep(PAUSE_S)


async def test_a_roll_under_talk_fails_no_turn(speech_pcm: Callable[[str, int], bytes]) -> None:
    words = speech_pcm("hello there how are you today my friend", 16_000)
    async with running_system(ENV) as system, calling(system.url) as speaker:
        before, over, said = dict(system.pids), asyncio.Event(), list[str]()
        talkers = [Talker(system) for _ in range(TALKERS)]
        roll = Roll(system.supervisor, Standby({}), settings_of({}), system.broker_url, system.url)
        async with asyncio.TaskGroup() as tasks:
            for talker in talkers:
                tasks.create_task(talker.talk(over))
            await speaker.speak(words)
            assert (await roll(said.append)).startswith("all services replaced in ")
            turns = [talker.turns for talker in talkers]
            while any(talker.turns == earlier for talker, earlier in zip(talkers, turns, strict=True)):
                await asyncio.sleep(0.05)
            over.set()
        assert [fault for talker in talkers for fault in talker.faults] == []
        assert speaker.of("reply_done", turn=1, status="completed")
        assert speaker.of("closed", code=1012)
        after = dict(system.pids)
        assert {name for name in before if before[name] == after[name]} == {"broker"}
        assert [line.partition(":")[0] for line in said] == ["tts", "llm", "asr", "vad", "edge"]
        assert [talker.closes for talker in talkers] == [[1012]] * TALKERS  # by the edge, once
        await a_successor_that_is_never_ready(system)


async def a_successor_that_is_never_ready(system: System) -> None:
    """It leaves its predecessor where it is."""

    async def never(pid: int) -> bool:
        return False

    before = dict(system.pids)
    with pytest.raises(ReplaceFailed, match=r"was not ready within 0.1 s"):
        await system.supervisor.replace("tts", never, 0.1)
    assert system.pids == before


async def test_the_control_socket_is_its_owners_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    settings = Settings(port=7999)
    with pytest.raises(NotRunning, match="set PARLEY_REDIS_URL"):
        await broker_url(settings)

    async def tell(say: Callable[[str], None]) -> str:
        say("a moment")
        return "unix:///broker"

    async def refuse(say: Callable[[str], None]) -> str:
        raise Refused("not now")

    said: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(answer_commands(7999, {"broker": tell, "roll": refuse}, PlainConsole()))
        while not socket_path(7999).exists():
            await asyncio.sleep(0.01)
        assert await broker_url(settings) == "unix:///broker"
        assert await ask(7999, "broker", said.append) == "unix:///broker"
        assert said == ["a moment"]
        for request, reason in {"roll": "not now", "x" * 100: "there is no command"}.items():
            with pytest.raises(Refused, match=reason):
                await ask(7999, request)
        assert stat.S_IMODE(socket_path(7999).stat().st_mode) == 0o600
        assert stat.S_IMODE(socket_path(7999).parent.stat().st_mode) == 0o700
        serving.cancel()
    assert not socket_path(7999).parent.exists()


async def test_a_control_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    socket_path(7999).parent.mkdir(mode=0o777)
    socket_path(7999).parent.chmod(0o777)
    await answer_commands(7999, {}, PlainConsole())
    assert "others may enter it" in capsys.readouterr().out
