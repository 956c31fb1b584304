"""The synthesizer behind /v1/audio/speech, against a real HTTP server that works, fails, or does not respond."""

import asyncio
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.tts.engine import ENGINES, Speech
from services.tts.engines.openai import VOICES, OpenAISynthesizer, _PcmReader
from shared.audio.loudness import LEVEL_DBFS, level_dbfs
from shared.engines.endpoints import OUTCOMES, EndpointFailed
from shared.engines.registry import EngineNotReady, UnknownEngine, create_engine
from shared.settings import Settings
from tests.support.openai_server import Answer, Cut, OpenAIServer, error, free_port_url, openai_server
from tests.support.waiting import HANG_S

SPEECH = "/v1/audio/speech"
PCM = np.arange(24_000, dtype="<i2").tobytes()
QUICK: dict[str, Any] = {"first_token_s": 1.0, "next_token_s": 1.0}
NEVER_S = 300.0


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        yield running


@asynccontextmanager
async def loaded(server: OpenAIServer, *answers: Answer, **given: Any) -> AsyncIterator[OpenAISynthesizer]:
    """Load an engine; the server then gives these answers."""
    synthesizer = create_engine("tts", "openai", ENGINES, Settings(**{"tts_url": server.url, **given}))
    assert isinstance(synthesizer, OpenAISynthesizer)
    try:
        await synthesizer.load()
        server.asked.clear()
        server.speeches = deque(answers or server.speeches)
        yield synthesizer
    finally:
        await synthesizer.close()


async def spoken(engine: OpenAISynthesizer, text: str = "Hello.", voice: str = "", speed: float = 1.0) -> list[Speech]:
    async with asyncio.timeout(HANG_S), aclosing(engine.speak(text, voice=voice, speed=speed, language="en")) as slices:
        return [slice_ async for slice_ in slices]


async def pcm(server: OpenAIServer, *answers: Answer, **given: Any) -> bytes:
    async with loaded(server, *answers, **given) as engine:
        return b"".join(slice_.pcm for slice_ in await spoken(engine))


def speech(*steps: bytes | float | type[Cut], kind: str = "audio/pcm") -> Answer:
    return Answer(steps, None, headers={"content-type": kind})


def wav(data: bytes, rate_hz: int = 24_000, channels: int = 1, size: int = 0xFFFFFFFF, extra: bytes = b"") -> bytes:
    layout = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * rate_hz * channels, 2 * channels, 16)
    listed = b"LIST" + struct.pack("<I", len(extra)) + extra + bytes(len(extra) % 2) if extra else b""
    head = b"WAVEfmt " + struct.pack("<I", 16) + layout + listed
    return b"RIFF" + struct.pack("<I", size) + head + b"data" + struct.pack("<I", size) + data


# ---- speech


async def test_samples_come_in_slices_of_at_most_200_ms(server: OpenAIServer) -> None:
    async with loaded(server, speech(PCM)) as engine:
        slices = await spoken(engine)
    assert engine.rate_hz == 24_000
    assert b"".join(slice_.pcm for slice_ in slices) == PCM
    assert all(0 < len(slice_.pcm) <= 9600 and not slice_.words for slice_ in slices)


@given(st.binary(max_size=30_000), st.lists(st.integers(1, 12_000), max_size=20), st.booleans(), st.binary(max_size=9))
def test_all_samples_arrive_whatever_the_chunk_sizes(data: bytes, cuts: list[int], header: bool, extra: bytes) -> None:
    data = b"\0\0\0\0" + data
    sent = wav(data, extra=extra) if header else data
    audio = _PcmReader("http://here", "audio/pcm")
    slices: list[bytes] = []
    place = 0
    for cut in [*cuts, len(sent)]:
        slices += audio.feed(sent[place : place + cut])
        place += cut
    slices += audio.finish()
    assert b"".join(slices) == data[: len(data) & ~1]
    assert all(len(slice_) % 2 == 0 and 0 < len(slice_) <= 9600 for slice_ in slices)
    assert all(len(slice_) >= 960 for slice_ in slices[:-1])


async def test_half_samples_are_joined_and_a_last_one_dropped(server: OpenAIServer) -> None:
    odd = [PCM[at : at + 1601] for at in range(0, 16_000, 1601)]
    assert await pcm(server, speech(*odd, b"x")) == (b"".join(odd) + b"x")[: (len(b"".join(odd)) + 1) & ~1]


async def test_the_first_slice_does_not_wait_for_the_rest(server: OpenAIServer) -> None:
    async with (
        loaded(server, speech(PCM[:2000], NEVER_S, PCM), next_token_s=NEVER_S) as engine,
        asyncio.timeout(HANG_S),
    ):
        slices = engine.speak("Hello.", voice="", speed=1.0, language="en")
        assert (await anext(slices)).pcm == PCM[:2000]
        await slices.aclose()


async def test_the_timeout_applies_to_each_slice(server: OpenAIServer) -> None:
    assert await pcm(server, speech(*(PCM[:2000], 0.3) * 4), **QUICK) == PCM[:2000] * 4


async def test_the_request(server: OpenAIServer) -> None:
    async with loaded(server, tts_model="kokoro", voice="nova") as engine:
        await spoken(engine, "Gr\u00fc\u00dfe!", speed=9)
        await spoken(engine, "Hi", "coral", 0.1)
        assert await spoken(engine, " \n") == []
    assert server.requests(SPEECH) == [
        {"model": "kokoro", "voice": "nova", "input": "Gr\u00fc\u00dfe!", "speed": 4.0, "response_format": "pcm"},
        {"model": "kokoro", "voice": "coral", "input": "Hi", "speed": 0.25, "response_format": "pcm"},
    ]


def voiced(dbfs: float, seconds: float = 1.0) -> bytes:
    """Return noise of this level, s16le."""
    samples = np.random.default_rng(1).normal(0, 32_768 * 10 ** (dbfs / 20), int(24_000 * seconds))
    return bytes(samples.clip(-32_768, 32_767).astype("<i2").tobytes())


def loudness(slices: list[Speech]) -> float:
    joined = np.frombuffer(b"".join(slice_.pcm for slice_ in slices), "<i2")
    return level_dbfs((joined / 32_768).astype(np.float32), 24_000)


@pytest.mark.parametrize("dbfs", [-35, -11])
async def test_the_loudness_is_measured_at_load(server: OpenAIServer, dbfs: float) -> None:
    server.speeches = deque([speech(voiced(dbfs, 0.5))])
    async with loaded(server) as engine:
        assert loudness(await spoken(engine)) == pytest.approx(LEVEL_DBFS, abs=0.5)


async def test_each_voice_has_its_own_loudness(server: OpenAIServer) -> None:
    server.speeches = deque([speech(voiced(-30))])
    async with loaded(server, speech(voiced(-24)), speech(voiced(-24)), speech(voiced(-30))) as engine:
        assert loudness(await spoken(engine, voice="echo")) == pytest.approx(
            -14, abs=0.5
        )  # a new voice starts with the gain of the first one
        assert loudness(await spoken(engine, voice="echo")) == pytest.approx(LEVEL_DBFS, abs=0.5)
        assert loudness(await spoken(engine)) == pytest.approx(LEVEL_DBFS, abs=0.5)


async def test_a_cancelled_sentence_is_measured(server: OpenAIServer) -> None:
    async with loaded(server, speech(voiced(-30, 2)), speech(voiced(-30))) as engine:
        received = 0
        async with aclosing(engine.speak("Hello.", voice="", speed=1.0, language="en")) as slices:
            while received < 24_000:
                received += len((await anext(slices)).pcm)
        assert loudness(await spoken(engine)) == pytest.approx(LEVEL_DBFS, abs=0.5)


# ---- what comes before the samples


@pytest.mark.parametrize("kind", ["audio/pcm", "audio/wav", "application/octet-stream"])
@pytest.mark.parametrize(("extra", "size"), [(b"made by a test.", 0xFFFFFFFF), (b"", 0)])
async def test_a_wav_header_is_skipped(server: OpenAIServer, kind: str, extra: bytes, size: int) -> None:
    sent = wav(PCM, extra=extra, size=size)
    assert await pcm(server, speech(sent[:2], sent[2:30], sent[30:], kind=kind)) == PCM


@pytest.mark.parametrize("layout", [{"rate_hz": 22_050}, {"channels": 2}])
async def test_a_wav_of_another_format_is_rejected(server: OpenAIServer, layout: dict[str, Any]) -> None:
    with pytest.raises(EndpointFailed, match="instead of 24000 Hz"):
        await pcm(server, speech(wav(PCM, **layout)))


@pytest.mark.parametrize(
    "sent", [b"RIFF\0\0\0\0WAVE" + b"junk\0\0\0\0" * 10_000, b"RIFF\0\0\0\0WAVEjunk\xff\xff\xff\xff"]
)
async def test_a_wav_without_samples_is_rejected(server: OpenAIServer, sent: bytes) -> None:
    with pytest.raises(EndpointFailed, match=r"without samples|no audio"):
        await pcm(server, speech(sent))


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"ID3\x04" + bytes(5000), "audio/mpeg"),
        (b"\xff\xfb\x90\x64" + bytes(5000), "audio/mpeg"),
        (b"OggS" + bytes(5000), "application/octet-stream"),
        (b"<html>Welcome</html>" * 100, "text/html; charset=utf-8"),
        (b'{"error": "no"}' * 100, "application/json"),
    ],
)
async def test_other_formats_are_rejected(server: OpenAIServer, sent: bytes, kind: str) -> None:
    with pytest.raises(EndpointFailed, match=f"sends {kind} instead of pcm"):
        await pcm(server, speech(sent, kind=kind))


async def test_samples_that_look_like_mp3_are_accepted(server: OpenAIServer) -> None:
    assert await pcm(server, speech(b"\xff\xfb" + PCM)) == b"\xff\xfb" + PCM


# ---- failures


@pytest.mark.parametrize(
    "failure",
    [
        error(500),
        error(429, **{"retry-after": "0"}),
        speech(),
        speech(b"\0"),
        speech(b"RIFF"),
        speech(Cut),
        speech(PCM[:100], Cut),
        speech(NEVER_S, PCM),
    ],
    ids=lambda answer: f"{answer.status} {answer.steps}"[:40],
)
async def test_a_failure_before_the_first_audio_is_retried_once(server: OpenAIServer, failure: Answer) -> None:
    async with loaded(server, failure, speech(PCM), **QUICK) as engine:
        assert b"".join(slice_.pcm for slice_ in await spoken(engine)) == PCM
        assert len(server.requests(SPEECH)) == 2
        server.speeches = deque([failure])
        with pytest.raises(EndpointFailed, match=server.url):
            await spoken(engine)
        assert len(server.requests(SPEECH)) == 4


@pytest.mark.parametrize("end", [(Cut,), (NEVER_S, PCM), tuple([b"\0\0", 0.05] * 400)], ids=["cut", "stall", "trickle"])
async def test_a_failure_after_the_first_audio_is_raised(server: OpenAIServer, end: tuple[Any, ...]) -> None:
    async with loaded(server, speech(PCM[:2000], 0.05, *end), **QUICK) as engine:
        async with aclosing(engine.speak("Hello.", voice="", speed=1.0, language="en")) as slices:
            assert (await anext(slices)).pcm == PCM[:2000]
            with pytest.raises(EndpointFailed, match=server.url):
                await anext(slices)
        assert len(server.requests(SPEECH)) == 1


@pytest.mark.parametrize(("status", "kind"), [(400, ValueError), (422, ValueError), (401, EndpointFailed)])
async def test_a_permanent_error_is_not_retried(server: OpenAIServer, status: int, kind: type[Exception]) -> None:
    async with loaded(server, error(status, "input is too long")) as engine:
        with pytest.raises(kind, match=f"{status} input is too long"):
            await spoken(engine)
        assert len(server.requests(SPEECH)) == 1


async def test_a_server_that_is_down_is_named(server: OpenAIServer) -> None:
    async with openai_server() as other:
        engine = OpenAISynthesizer(Settings(tts_url=other.url))
        await engine.load()
    with pytest.raises(EndpointFailed, match="onnection"):
        await spoken(engine)
    await engine.close()


async def test_closing_the_sentence_closes_the_stream(server: OpenAIServer) -> None:
    async with loaded(server, speech(PCM, NEVER_S, PCM), next_token_s=NEVER_S) as engine:
        async with aclosing(engine.speak("Hello.", voice="", speed=1.0, language="en")) as slices:
            await anext(slices)
            assert not server.left.is_set()
        await asyncio.wait_for(server.left.wait(), HANG_S)


@pytest.mark.parametrize("steps", [(NEVER_S,), (PCM, NEVER_S)])
async def test_cancelling_the_sentence_closes_the_stream(server: OpenAIServer, steps: tuple[Any, ...]) -> None:
    async with loaded(server, speech(*steps), first_token_s=NEVER_S, next_token_s=NEVER_S) as engine:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await spoken(engine)
        await asyncio.wait_for(server.left.wait(), HANG_S)
        assert len(server.requests(SPEECH)) == 1


# ---- voices


@pytest.mark.parametrize(
    "listing",
    [
        {"voices": ["af_bella", "bm_lewis", "af_bella", "", None, 7]},
        {"voices": [{"id": "af_bella", "name": "Bella"}, {"name": "bm_lewis"}, {}]},
        ["af_bella", "bm_lewis"],
    ],
)
async def test_the_voices_come_from_the_server(server: OpenAIServer, listing: Any) -> None:
    server.voices = listing
    async with loaded(server) as engine:
        assert engine.voices() == ("af_bella", "bm_lewis")
        await spoken(engine, voice="bm_lewis")
        await spoken(engine)
        with pytest.raises(ValueError, match="'alloy'; available: af_bella, bm_lewis"):
            await spoken(engine, voice="alloy")
    assert [asked["voice"] for asked in server.requests(SPEECH)] == ["bm_lewis", "af_bella"]


@pytest.mark.parametrize(
    "listing",
    [
        None,
        {},
        {"voices": []},
        {"voices": "x"},
        [],
        7,
        error(400),
        Answer((b"<html>",), headers={"content-type": "text/html"}),
    ],
)
async def test_without_a_list_any_voice_is_sent_to_the_server(server: OpenAIServer, listing: Any) -> None:
    server.voices = listing
    async with loaded(server) as engine:
        assert engine.voices() == VOICES
        await spoken(engine, voice="mine")
        server.speeches = deque([error(400, "no such voice")])
        with pytest.raises(ValueError, match=r"no such voice.*voices: alloy, ash.*…"):
            await spoken(engine, voice="other")
    assert server.requests(SPEECH)[0]["voice"] == "mine"


async def test_the_default_voice_comes_from_the_settings(server: OpenAIServer) -> None:
    server.voices = {"voices": ["a", "b", "c"]}
    async with loaded(server, voice="b") as engine:
        assert engine.voices() == ("b", "a", "c")
        await spoken(engine)
    assert server.requests(SPEECH)[0]["voice"] == "b"
    with pytest.raises(UnknownEngine, match="'d'; available: a, b, c"):
        async with loaded(server, voice="d"):
            pass


async def test_an_unknown_hosted_voice_is_rejected_locally(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))  # the host name stays api.openai.com
    async with loaded(server, tts_url="http://api.openai.com/v1", tts_key="secret") as engine:
        await spoken(engine, voice="verse")
        with pytest.raises(ValueError, match="'nobody'; available: alloy"):
            await spoken(engine, voice="nobody")
    (asked,) = server.asked
    assert asked.headers["authorization"] == "Bearer secret"
    assert asked.body["model"] == "tts-1"


# ---- load


@pytest.mark.parametrize(
    ("voices", "speech_answer", "reason"),
    [
        (error(503, "starting"), Answer(), "503 starting"),
        (Answer((NEVER_S,)), Answer(), "no answer in time"),
        (None, error(503, "loading"), "503 loading"),
        (None, Answer((), None), "no audio"),
    ],
)
async def test_a_server_that_does_not_speak_yet_is_waited_for(
    server: OpenAIServer, voices: Any, speech_answer: Answer, reason: str
) -> None:
    server.voices, server.speeches = voices, deque([speech_answer])
    with pytest.raises(EngineNotReady) as waits:
        async with loaded(server, **QUICK):
            pass
    assert (waits.value.awaited, reason in waits.value.reason) == (server.url, True)


@pytest.mark.parametrize(
    ("voices", "speech_answer", "says"),
    [
        (error(401, "bad key"), Answer(), "401 bad key. Set PARLEY_TTS_KEY"),
        (None, error(404, "no model tts-1"), "404 no model tts-1. Is PARLEY_TTS_URL complete .*PARLEY_TTS_MODEL"),
        (None, error(400, "no such voice"), "400 no such voice"),
        (None, speech(b"ID3" + bytes(5000), kind="audio/mpeg"), "sends audio/mpeg instead of pcm"),
        (None, speech(wav(PCM, rate_hz=22_050)), "instead of 24000 Hz"),
    ],
)
async def test_what_waiting_does_not_change_is_an_error_of_the_settings(
    server: OpenAIServer, voices: Any, speech_answer: Answer, says: str
) -> None:
    server.voices, server.speeches = voices, deque([speech_answer])
    with pytest.raises(UnknownEngine, match=says) as refused:
        async with loaded(server, **QUICK):
            pass
    assert not isinstance(refused.value, EngineNotReady)


async def test_unreachable_servers_and_missing_keys(server: OpenAIServer) -> None:
    nowhere = free_port_url()
    with pytest.raises(EngineNotReady, match=f"^{nowhere}: connection refused$"):
        async with loaded(server, tts_url=nowhere):
            pass
    with pytest.raises(UnknownEngine, match="PARLEY_TTS_KEY or OPENAI_API_KEY"):
        async with loaded(server, tts_url=""):
            pass


# ---- what is counted


def requests() -> dict[str, float]:
    """Return the number of requests so far, by outcome."""
    labels = {"stage": "tts", "endpoint": "first"}
    found = {
        outcome: REGISTRY.get_sample_value("parley_endpoint_requests_total", {**labels, "outcome": outcome})
        for outcome in OUTCOMES
    }
    return {outcome: value for outcome, value in found.items() if value is not None}


async def test_requests_are_counted_by_outcome(server: OpenAIServer) -> None:
    answers = (error(503), Answer((PCM,), None), error(422), Answer((PCM, 20.0, PCM), None))
    async with loaded(server, *answers, next_token_s=60) as engine:
        before = requests()
        assert set(before) == set(OUTCOMES)
        assert await spoken(engine)
        with pytest.raises(ValueError, match="422"):
            await spoken(engine)
        async with aclosing(engine.speak("Hello.", voice="", speed=1.0, language="en")) as slices:
            await anext(slices)
    rose = {outcome: value - before[outcome] for outcome, value in requests().items()}
    assert rose == {"done": 1, "cancelled": 1, "timeout": 0, "limited": 0, "refused": 1, "failed": 1}
