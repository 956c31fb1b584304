"""The llm stage with audio input and output: what the model gets, what is published, and second attempts."""

import random
from collections.abc import AsyncGenerator, Sequence
from itertools import count
from typing import Any

import pytest

from services.llm import turn_audio
from services.llm.engines.scripted import ScriptedModel
from services.llm.engines.scripted_omni import ScriptedOmni, ScriptedTalker
from services.llm.stage import LlmStage
from shared.bus.leases import Lease
from shared.protocol import frames as fr
from shared.protocol.frames import Frame
from shared.protocol.prompt import SOUND, prompt, prompt_hash
from shared.protocol.session import Message, ReplyOptions, SessionSettings, Tool, ToolCall
from shared.protocol.speech import Speech
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.work import Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases

OMNI = SessionSettings(route="omni", instructions="Be brief.", voice="anna")
START, END = 16_000, 16_000 + 4_000
AUDIO_READY = fr.TurnAudioReady("s", 2, 0, "0-0", START, END, ReplyOptions())
BEFORE = (Message("user", "Hello.", 1), Message("assistant", "Hi.", 1))


class Model:
    """Yields the given items, and records its arguments."""

    audio_input = audio_output = True
    rate_hz = 24_000
    slots = 1

    def __init__(self, *items: str | Speech | ToolCall | Exception) -> None:
        self.items = items
        self.messages: Sequence[Message] = ()
        self.given: dict[str, Any] = {}

    async def load(self) -> None: ...

    async def reply(
        self, messages: Sequence[Message], *, language: str, prefix: str = "", tools: Sequence[Tool] = (),
        audio: bytes = b"", voice: str | None = None,
    ) -> AsyncGenerator[str | ToolCall | Speech, None]:  # fmt: skip
        self.messages, self.given = messages, {"prefix": prefix, "audio": audio, "voice": voice}
        for item in self.items:
            if isinstance(item, Exception):
                raise item
            yield item

    async def close(self) -> None: ...


class Session:
    """A broker in memory with one session that has had one turn."""

    def __init__(self, settings: SessionSettings = OMNI) -> None:
        self.settings = settings
        self.bus = SimulatedBus(random.Random(0), (0.0, 0.0))
        self.leases = SimulatedLeases(self.bus)
        self.bus.save_settings("s", settings)
        self.bus.save_history("s", BEFORE)
        self.numbers = count(1)

    def speech(self, first: int, samples: int, value: int = 0) -> None:
        pcm = b"".join((value or at).to_bytes(2, "little") for at in range(first, first + samples))
        self.bus.add(StreamKind.SPEECH, "s", 1, fr.AudioChunk(first, pcm))

    async def reply(self, model: Any, job: Frame = AUDIO_READY, *, attempt: int = 1) -> list[Frame]:
        lease = Lease(b"jobs", f"{next(self.numbers)}-0", attempt, job)
        self.leases.fences[lease.id] = attempt
        work = Work(self.bus, self.leases, "llm", lease)
        try:
            assert await work.finish(await LlmStage(model, "test", 0, 400).work(work))
        finally:
            assert work._subscriptions == []
        return await self.log()

    async def log(self) -> list[Frame]:
        return [frame for _, frames in await self.bus.log(StreamKind.OUT, "s") for frame in frames]


def ramp(first: int, last: int) -> bytes:
    return b"".join(at.to_bytes(2, "little") for at in range(first, last))


async def test_the_model_gets_exactly_the_audio_of_the_turn() -> None:
    session, model = Session(), Model("Fine.")
    session.speech(START - 700, 600, 9)  # the previous turn
    session.speech(START - 100, 1600)
    session.speech(START + 1000, 500)  # duplicate
    session.speech(START + 1500, 1600)
    session.speech(START + 3100, 1600)
    session.speech(END + 700, 1600, 9)
    log = await session.reply(model)
    assert model.given == {"prefix": "", "audio": ramp(START, END), "voice": "anna"}
    assert model.messages == [Message("system", "Be brief.", 0), *BEFORE]
    messages = prompt(OMNI, ReplyOptions(), BEFORE, 2, SOUND)
    assert log == [
        fr.ReplyStarted(2, 0, prompt_hash(OMNI, ReplyOptions(), messages), True),
        fr.ReplyDelta(2, 0, 0, "Fine."),
        fr.ReplyDone(2, 0, "Fine.", 0),
    ]


async def test_the_transcript_of_the_audio_is_not_in_the_prompt() -> None:
    session, model = Session(), Model("Fine.")
    session.bus.save_history("s", (*BEFORE, Message("user", "How are you?", 2)))
    session.speech(START, 4000)
    await session.reply(model, fr.TurnAudioReady("s", 3, 0, "0-0", START, END, ReplyOptions(), 2))
    assert model.messages == [Message("system", "Be brief.", 0), *BEFORE]
    await session.reply(model, fr.TurnAudioReady("s", 3, 0, "0-0", START, END, ReplyOptions()))
    assert model.messages[-1].text == "How are you?"


async def test_only_the_end_of_a_long_turn_is_sent() -> None:
    session, model = Session(SessionSettings(route="omni", longest_ms=100)), Model("Fine.")
    session.speech(START, 4000)
    await session.reply(model)
    assert model.given["audio"] == ramp(END - 1600, END)


async def test_lost_audio_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn_audio, "WAIT_S", 0.05)
    session, model = Session(), Model("Fine.")
    session.speech(START, 1600)
    await session.reply(model)
    assert model.given["audio"] == ramp(START, START + 1600)
    with pytest.raises(ValueError, match="has no audio of turn"):
        await Session().reply(model)


async def test_a_model_without_audio_input_rejects_audio() -> None:
    session = Session()
    session.speech(START, 4000)
    with pytest.raises(ValueError, match="engine test has no audio input"):
        await session.reply(ScriptedModel(Settings()))
    assert await session.log() == []
    assert LlmStage(ScriptedModel(Settings()), "x", 0, 400).info() == {
        "engine": "x", "model": "", "slots": 256, "hears": False, "speaks": False, "options": [],
    }  # fmt: skip


async def test_the_models_speech_is_one_sentence_and_needs_no_tts() -> None:
    session = Session()
    session.speech(START, 4000)
    log = await session.reply(Model("Fine. ", Speech(b"ab" * 10), "And you?", Speech(b"cd" * 5)))
    assert log[1:] == [
        fr.ReplyDelta(2, 0, 0, "Fine. "),
        fr.VoiceChunk(2, 0, 0, 0, 24_000, b"ab" * 10, ()),
        fr.ReplyDelta(2, 0, 6, "And you?"),
        fr.VoiceChunk(2, 0, 0, 10, 24_000, b"cd" * 5, ()),
        fr.VoiceDone(2, 0, 0, 15),
        fr.ReplyDone(2, 0, "Fine. And you?", 1),
    ]


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (SessionSettings(), ReplyOptions()),  # the route cascade always uses the tts stage
        (OMNI, ReplyOptions(say="Fine.")),  # a model cannot be made to say a given text
    ],
)
async def test_the_tts_stage_speaks_what_the_model_does_not(settings: SessionSettings, options: ReplyOptions) -> None:
    session, model = Session(settings), Model("Fine.")
    log = await session.reply(model, fr.TranscriptFinal("s", 2, 0, "How are you?", options))
    assert [type(frame) for frame in log] == [fr.ReplyStarted, fr.ReplyDelta, fr.ReplySentence, fr.ReplyDone]
    assert model.given.get("voice") is None


async def test_a_text_reply_is_not_spoken() -> None:
    session, model = Session(), Model("Fine.")
    session.speech(START, 4000)
    job = fr.TurnAudioReady("s", 2, 0, "0-0", START, END, ReplyOptions(spoken=False))
    log = await session.reply(model, job)
    assert model.given["voice"] is None
    assert log[1:] == [fr.ReplyDelta(2, 0, 0, "Fine."), fr.ReplyDone(2, 0, "Fine.", 0)]


async def test_a_model_with_a_voice_speaks_replies_to_typed_turns() -> None:
    session, model = Session(), Model("Fine.", Speech(b"ab"))
    log = await session.reply(model, fr.TranscriptFinal("s", 2, 0, "How are you?", ReplyOptions()))
    assert model.given == {"prefix": "", "audio": b"", "voice": "anna"}
    assert model.messages[-1] == Message("user", "How are you?", 2)
    assert fr.VoiceDone(2, 0, 0, 1) in log


async def test_a_second_attempt_starts_at_the_first_sample() -> None:
    session = Session()
    session.speech(START, 4000)
    settings = Settings(scripted_text="I am fine.", scripted_tts_seconds=0.5)
    whole = ramp(0, 8000)
    with pytest.raises(ConnectionError):
        await session.reply(Model("I am", Speech(whole[:6400]), ConnectionError()))
    log = await session.reply(ScriptedTalker(settings), attempt=2)
    chunks = [frame for frame in log if isinstance(frame, fr.VoiceChunk)]
    assert [chunk.offset for chunk in chunks] == [0, 0, 3200, 6400]
    assert b"".join(chunk.pcm for chunk in chunks[1:]) == whole
    assert log[-2:] == [fr.VoiceDone(2, 0, 0, 8000), fr.ReplyDone(2, 0, "I am fine. I heard 250 ms.", 1)]


async def test_a_model_that_cannot_continue_ends_the_reply() -> None:
    session = Session()
    session.speech(START, 4000)
    with pytest.raises(ConnectionError):
        await session.reply(Model("I am", Speech(b"ab" * 50), ConnectionError()))
    log = await session.reply(Model(), attempt=2)
    assert log[-2:] == [fr.VoiceDone(2, 0, 0, 50), fr.ReplyDone(2, 0, "I am", 1)]


async def test_text_of_an_attempt_without_speech_goes_to_tts() -> None:
    session, model = Session(), Model(" fine.")
    session.speech(START, 4000)
    with pytest.raises(ConnectionError):
        await session.reply(Model("I am", ConnectionError()))
    log = await session.reply(model, attempt=2)
    assert model.given == {"prefix": "I am", "audio": ramp(START, END), "voice": None}
    started = [frame.voiced for frame in log if isinstance(frame, fr.ReplyStarted)]
    assert started == [True, False]
    assert [frame.text for frame in log if isinstance(frame, fr.ReplySentence)] == ["I am fine."]
    assert log[-1] == fr.ReplyDone(2, 0, "I am fine.", 1)


async def test_the_scripted_models_report_the_length_of_the_audio() -> None:
    session = Session()
    session.speech(START, 4000)
    log = await session.reply(ScriptedOmni(Settings(scripted_text="Fine.")))
    assert log[-1] == fr.ReplyDone(2, 0, "Fine. I heard 250 ms.", 2)
    log = await session.reply(ScriptedOmni(Settings(scripted_text="Fine.")), attempt=2)
    assert log[-1] == fr.ReplyDone(2, 0, "Fine. I heard 250 ms.", 2)
    assert len([frame for frame in log if isinstance(frame, fr.ReplySentence)]) == 2
