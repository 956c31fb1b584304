"""kill -9 of each process in each state of a turn: there is exactly one answer, and every sample of it comes once.

Six sessions wait, each in another state of its turn, at engines that stand still there. Then the process is killed.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from tests.conftest import system
from tests.support.caller import Caller, calling
from tests.support.edges import until_healthy
from tests.support.held import SPOKEN_SLICES, gate
from tests.support.ramp import assert_exact
from tests.support.system import SCRIPTED, System
from tests.support.waiting import HANG_S

SENTENCES, SAMPLES, SLICE = 2, 16_000, 3_200
"""Of a reply; of a sentence; of a slice of it."""
TEXT = "The first sentence is here. The second sentence follows it."
HELD = {
    **SCRIPTED,
    "PARLEY_ASR_ENGINE": "tests.support.held:HeldRecognizer",
    "PARLEY_LLM_ENGINE": "tests.support.held:HeldModel",
    "PARLEY_TTS_ENGINE": "tests.support.held:HeldVoice",
    "PARLEY_SCRIPTED_TEXT": TEXT,
    "PARLEY_SCRIPTED_TTS_SECONDS": "1",
    "PYTHONPATH": str(Path.cwd()),
}
PAUSE, END = bytes(2 * 16 * 300), bytes(2 * 16 * 1500)
"""A silence in which the turn is not over yet, and one that ends it."""
ENDPOINT_MS = 1000
REPLY = list(range(SAMPLES)) * SENTENCES

Speech = Callable[[str, int], bytes]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("held")


@pytest.fixture(scope="module")
def held_system(folder: Path) -> Iterator[System]:
    with system({**HELD, "TEST_HELD": str(folder)}) as running:
        yield running


class Held:
    """A session that is stays in one state of its turn."""

    language: str
    holds: tuple[str, ...] = ()
    """The stages that stand still."""
    turns = 1

    def __init__(self, caller: Caller, words: bytes) -> None:
        self.caller, self.words = caller, words

    async def reach(self) -> None:
        """Return once the session is in its state."""
        raise NotImplementedError

    async def go_on(self, *, lost: bool) -> None:
        """Say what is missing. `lost`: the line was lost, and the time without it was silence."""
        await self.caller.send_raw(END)

    def check(self) -> None:
        """Each turn has exactly one answer."""
        caller = self.caller
        assert [event["turn"] for event in caller.of("processing_started")] == [*range(1, self.turns + 1)]
        assert [event["turn"] for event in caller.of("reply_done")] == [*range(1, self.turns + 1)]
        assert caller.of("reply_done")[-1]["status"] == "completed"
        text = "".join(event["text"] for event in caller.of("model_response", turn=self.turns))
        assert text == TEXT
        assert_exact(audio_of(caller, self.turns), REPLY)
        assert len(caller.of("transcript", final=True)) == 1


class Listening(Held):
    language = "de"

    async def reach(self) -> None:
        await self.caller.send_raw(self.words[: len(self.words) // 4 * 2])
        await self.caller.until("vad_status", is_speaking=True)

    async def go_on(self, *, lost: bool) -> None:
        await self.caller.send_raw((b"" if lost else self.words[len(self.words) // 4 * 2 :]) + END)


class Paused(Held):
    language = "fr"

    async def reach(self) -> None:
        await self.caller.send_raw(self.words + PAUSE)
        await self.caller.until("vad_status", is_speaking=False)


class Transcribing(Held):
    language = "es"
    holds = ("asr",)

    async def reach(self) -> None:
        await self.caller.send_raw(self.words + END)
        await self.caller.until("processing_started")


class Generating(Held):
    language = "it"
    holds = ("llm",)

    async def reach(self) -> None:
        await self.caller.send_raw(self.words + END)
        await self.caller.until("model_response")


class Speaking(Held):
    language = "pt"
    holds = ("tts",)

    async def reach(self) -> None:
        await self.caller.send_raw(self.words + END)
        await self.caller.where(
            lambda _: len(self.caller.audio) >= 2 * SPOKEN_SLICES * SLICE, HANG_S, "the slices before it is held"
        )


class BeingInterrupted(Held):
    language = "nl"
    holds = ("asr", "tts")
    turns = 2

    async def reach(self) -> None:
        await self.caller.send("text_input", text="hello")
        await self.caller.until("audio")
        await self.caller.send_raw(self.words + PAUSE)
        await self.caller.until("pause")

    def check(self) -> None:
        super().check()
        assert self.caller.of("reply_done")[0]["status"] == "interrupted"
        assert_exact(audio_of(self.caller, 1), REPLY, whole=False)


STATES = (Listening, Paused, Transcribing, Generating, Speaking, BeingInterrupted)


def audio_of(caller: Caller, turn: int) -> bytes:
    """The audio that came between the beginning of this reply and of the next one."""
    found, current = b"", 0
    for event in caller.events:
        if event["type"] == "reply_started":
            current = event["turn"]
        elif event["type"] == "audio" and current == turn:
            found += event["pcm"]
    return found


@asynccontextmanager
async def resumed(caller: Caller, url: str) -> AsyncIterator[None]:
    """Connect again as soon as the edge is there."""
    await caller.until("closed")
    await until_healthy(url)
    async with caller.resumed(url):
        assert caller.of("ready")[-1]["resumed"]
        yield


async def run(
    kind: type[Held], server: System, words: bytes, reached: asyncio.Barrier, killed: asyncio.Event, edge: bool
) -> None:
    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(
            calling(server.url, language=kind.language, endpoint_ms=ENDPOINT_MS, pause_ms=160)
        )
        held = kind(caller, words)
        await held.reach()
        await reached.wait()
        await killed.wait()
        if edge:
            await stack.enter_async_context(resumed(caller, server.url))
        await held.go_on(lost=edge)
        await caller.until("reply_done", turn=held.turns)
        held.check()


async def kill(server: System, name: str, folder: Path, reached: asyncio.Barrier, killed: asyncio.Event) -> None:
    await reached.wait()
    os.kill(server.pids[name], signal.SIGKILL)
    for file in folder.iterdir():
        file.unlink()
    killed.set()


@pytest.mark.parametrize("name", ["vad", "asr", "llm", "tts", "edge"])
async def test_there_is_one_answer_whatever_dies_in_whatever_state(
    held_system: System, folder: Path, speech_pcm: Speech, name: str
) -> None:
    words = speech_pcm("hello there", 16_000)
    await until_healthy(held_system.url)
    for kind in STATES:
        for stage in kind.holds:
            gate(folder, stage, kind.language).touch()
    reached, killed = asyncio.Barrier(len(STATES) + 1), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        for kind in STATES:
            task = run(kind, held_system, words, reached, killed, name == "edge")
            tasks.create_task(task, name=kind.__name__)
        tasks.create_task(kill(held_system, name, folder, reached, killed))
