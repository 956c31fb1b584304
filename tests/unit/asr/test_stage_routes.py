"""The asr stage: which transcripts ask for a reply, and the counter of audio seconds."""

import random
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY

from services.asr.engines.scripted import ScriptedRecognizer
from services.asr.stage import AsrStage
from shared.bus.leases import Lease
from shared.protocol import frames as fr
from shared.protocol.session import ReplyOptions
from shared.protocol.streams import StreamKind
from shared.settings import Settings
from shared.worker.work import Work
from tests.support.simulated_bus import SimulatedBus
from tests.support.simulated_workers import SimulatedLeases

STARTED = fr.SpeechStarted("s", 1, 0, 0, 0, "0-0", "en", True)


@pytest.mark.parametrize(
    ("route", "speculate"), [("cascade", False), ("cascade", True), ("omni", False), ("omni", True)]
)
async def test_a_transcript_asks_for_a_reply_on_the_cascade_route_only(route: str, speculate: bool) -> None:
    bus = SimulatedBus(random.Random(0), (0.0, 0.0))
    leases = SimulatedLeases(bus)
    leases.fences["1-0"] = 1
    for frame in (
        fr.AudioChunk(0, bytes(3200)),
        fr.SpeechPaused(1, 0, 1600, speculate),
        fr.TurnCommitted(1, 0, 0, 1600, 3200, 0, ReplyOptions()),
    ):
        bus.add(StreamKind.SPEECH, "s", 1, frame)
    work = Work(bus, leases, "asr", Lease(b"jobs", "1-0", 1, replace(STARTED, route=route)))
    await work.finish(await AsrStage(ScriptedRecognizer(Settings()), "test").work(work))
    log = [frame for _, frames in await bus.log(StreamKind.OUT, "s") for frame in frames]
    finals = [frame for frame in log if isinstance(frame, fr.TranscriptFinal)]
    assert finals == [fr.TranscriptFinal("s", 1, 0, "hello there", ReplyOptions(wants_reply=route == "cascade"))]


@pytest.mark.parametrize(("speculate", "transcribe"), [(False, False), (True, False), (False, True), (True, True)])
async def test_the_words_of_a_pause_go_to_the_decision_on_the_turn_if_that_asks_for_them(
    speculate: bool, transcribe: bool
) -> None:
    bus = SimulatedBus(random.Random(0), (0.0, 0.0))
    leases = SimulatedLeases(bus)
    leases.fences["1-0"] = 1
    for frame in (
        fr.AudioChunk(0, bytes(3200)),
        fr.SpeechPaused(1, 0, 1600, speculate, transcribe),
        fr.SpeechResumed(1, 1, 3200),
        fr.TurnCommitted(1, 1, 0, 1600, 3200, 0, ReplyOptions()),
    ):
        bus.add(StreamKind.SPEECH, "s", 1, frame)
    work = Work(bus, leases, "asr", Lease(b"jobs", "1-0", 1, STARTED))
    await work.finish(await AsrStage(ScriptedRecognizer(Settings()), "test").work(work))
    heard = [frame for _, frames in await bus.log(StreamKind.IN, "s") for frame in frames]
    assert heard == ([fr.PauseTranscribed(1, 0, "hello there", "en")] if transcribe else [])
    log = [frame for _, frames in await bus.log(StreamKind.OUT, "s") for frame in frames]
    assert [frame.revision for frame in log if isinstance(frame, fr.TranscriptFinal)] == ([0, 1] if speculate else [1])


async def test_audio_seconds_are_counted_once_and_exported_from_zero_on() -> None:
    def audio_s() -> float | None:
        return REGISTRY.get_sample_value("parley_asr_seconds_total", {"engine": "counts-seconds"})

    bus = SimulatedBus(random.Random(0), (0.0, 0.0))
    leases = SimulatedLeases(bus)
    leases.fences["1-0"] = 1
    for frame in (
        fr.AudioChunk(0, bytes(3200)),
        fr.AudioChunk(800, bytes(3200)),  # its first half is a duplicate
        fr.TurnCommitted(1, 0, 0, 2400, 3200, 0, ReplyOptions()),
    ):
        bus.add(StreamKind.SPEECH, "s", 1, frame)
    stage = AsrStage(ScriptedRecognizer(Settings()), "counts-seconds")
    await stage.load()
    assert audio_s() == 0
    await stage.work(Work(bus, leases, "asr", Lease(b"jobs", "1-0", 1, STARTED)))
    assert audio_s() == pytest.approx(2400 / 16_000)
