"""The recogniser behind /v1/audio/transcriptions, against a real HTTP server that works, fails, or does not respond."""

import asyncio
import io
import json
import wave
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.wer import word_error_rate
from deploy.client.talk import read_speech
from services.asr.engine import ENGINES, Transcript
from services.asr.engines import openai
from services.asr.engines.model import BYTES_PER_S, Clip, Recognition, silent_clip
from services.asr.engines.openai import OpenAIRecognizer
from services.asr.engines.transcription_answer import BadAnswer, TranscriptionAnswer
from shared.engines.endpoints import EndpointFailed
from shared.engines.registry import EngineNotReady, UnknownEngine, create_engine
from shared.settings import Settings
from tests.support.light_models import light_model
from tests.support.openai_server import Answer, Cut, OpenAIServer, error, free_port_url, heard, openai_server
from tests.support.sounds import feed, hum, noise, voice
from tests.support.waiting import HANG_S, until

TRANSCRIPTIONS = "/v1/audio/transcriptions"
QUICK: dict[str, Any] = {"first_token_s": 1.0, "next_token_s": 1.0}
NEVER_S = 300.0
ALLOWED_WER = 0.1
"""Whisper tiny.en in 8 bits gets 2 of these 29 words wrong."""
VLLM = (
    b'data: {"choices": [{"delta": {"content": "so it"}}]}\n\n'
    b'data: {"choices": [{"delta": {"content": " goes"}, "finish_reason": "stop"}]}\r\n\r\n'
    b"data: [DONE]\n\n"
)
EVENTS = {"content-type": "text/event-stream"}


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def server() -> AsyncIterator[OpenAIServer]:
    async with openai_server() as running:
        running.models = {"data": [{"id": "tiny-llm"}, {"id": "whisper-small"}, {"id": "whisper-large"}]}
        yield running


@asynccontextmanager
async def loaded(server: OpenAIServer, *answers: Answer, **given: Any) -> AsyncIterator[OpenAIRecognizer]:
    """Load an engine; the server then gives these answers."""
    recognizer = create_engine("asr", "openai", ENGINES, Settings(**{"asr_url": server.url, **given}))
    assert isinstance(recognizer, OpenAIRecognizer)
    try:
        await recognizer.load()
        server.asked.clear()
        server.transcripts = deque(answers or server.transcripts)
        yield recognizer
    finally:
        await recognizer.close()


async def transcribed(recognizer: OpenAIRecognizer, pcm: bytes, hints: str = "", language: str = "en") -> Transcript:
    """Transcribe speech that arrives at once: too fast for partial transcripts."""
    utterance = await recognizer.open(language, hints)
    try:
        async with asyncio.timeout(HANG_S):
            await utterance.accept(pcm)
            return await utterance.finish()
    finally:
        utterance.close()


async def load(server: OpenAIServer, **given: Any) -> None:
    async with loaded(server, **given):
        pass


def finals(server: OpenAIServer, pcm: bytes) -> list[dict[str, Any]]:
    """The requests with all of the audio."""
    return [asked for asked in server.requests(TRANSCRIPTIONS) if samples(asked["file"]) == pcm]


def samples(file: bytes) -> bytes:
    with wave.open(io.BytesIO(file)) as opened:
        assert (opened.getframerate(), opened.getnchannels(), opened.getsampwidth()) == (16_000, 1, 2)
        return opened.readframes(opened.getnframes())


# ---- the request


async def test_the_turn_is_sent_as_wav_with_language_and_hints(server: OpenAIServer) -> None:
    speech = voice(2)
    async with loaded(server) as recognizer:
        result = await transcribed(recognizer, speech, hints=" Parley, <|de|>Valkey ", language="en-GB")
        await transcribed(recognizer, speech, language="auto")
    assert result == Transcript("hello there", "en")
    named, detected = (dict(asked) for asked in finals(server, speech)[-2:])
    assert named.pop("file") == detected.pop("file")
    assert named == {
        "model": "whisper-small",
        "response_format": "json",
        "stream": "true",
        "language": "en",
        "prompt": "Parley,  de Valkey",
    }
    assert detected == {"model": "whisper-small", "response_format": "json", "stream": "true"}


async def test_audio_without_a_voice_is_not_sent(server: OpenAIServer) -> None:
    async with loaded(server) as recognizer:
        for sound in (bytes(2 * BYTES_PER_S), noise(2), hum(2)):
            assert (await transcribed(recognizer, sound)).text == ""
    assert server.asked == []


async def test_partial_transcripts_are_the_words_on_which_two_answers_agree(server: OpenAIServer) -> None:
    answers = heard("and so"), heard("and so my fellow"), heard("and so my fellow Americans")
    async with loaded(server, *answers) as recognizer:
        utterance = await recognizer.open("en")
        partials: list[str] = []
        async with asyncio.timeout(HANG_S):
            while "and so my fellow" not in partials:
                partials += filter(None, [await utterance.accept(voice(0.5))])
                await asyncio.sleep(0.02)
            assert (await utterance.finish()).text == "and so my fellow Americans"
        utterance.close()
    assert partials[0] in ("and so", "and so my fellow")


async def test_openai_is_not_asked_for_partial_transcripts(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.removesuffix("/v1"))  # the host name stays api.openai.com
    async with loaded(server, asr_url="http://api.openai.com/v1", asr_key="secret") as recognizer:
        utterance = await recognizer.open("en")
        await feed(utterance, voice(3))
        assert server.asked == []
        assert (await utterance.finish()).text == "hello there"
        utterance.close()
    assert [asked["model"] for asked in server.requests(TRANSCRIPTIONS)] == ["whisper-1"]


async def test_several_sessions_at_once_do_not_mix(server: OpenAIServer) -> None:
    server.transcribe = lambda form: heard(f"{len(samples(form['file'])) // BYTES_PER_S} seconds")
    async with loaded(server) as recognizer, asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(transcribed(recognizer, voice(2 + number))) for number in range(6)]
    assert [task.result().text for task in running] == [f"{2 + number} seconds" for number in range(6)]


# ---- the answer


@pytest.mark.parametrize(
    "answer",
    [
        heard("so it", " goes"),
        heard("so", done="so it goes"),
        Answer((b": hi\n\ndata: ", b'{"type": "transcript.text.done", "text": "so it goes"}'), None, headers=EVENTS),
        Answer((VLLM,), None, headers=EVENTS),
        Answer(body={"text": " so it goes "}),
        Answer(body={"text": "x", "segments": [{"text": " so it goes", "no_speech_prob": 0.1, "avg_logprob": -0.3},
                                               {"text": " thank you", "no_speech_prob": 0.9, "avg_logprob": -1.4}]}),
        Answer(body={"text": "so it goes", "segments": [{"text": "so it goes", "no_speech_prob": None}]}),
    ],
    ids=["stream", "done", "split", "vllm", "json", "segments", "segment without figures"],
)  # fmt: skip
async def test_the_answers_of_several_servers(server: OpenAIServer, answer: Answer) -> None:
    async with loaded(server, answer) as recognizer:
        assert (await transcribed(recognizer, voice(2))).text == "so it goes"


@pytest.mark.parametrize(
    "text", ["you " * 200, ".", "", "a b c d e f g h i j k l m n o p q r s t u v w x y z 1 2 3 4 5"]
)
async def test_hallucinated_text_is_dropped(server: OpenAIServer, text: str) -> None:
    async with loaded(server, Answer(body={"text": text})) as recognizer:
        assert (await transcribed(recognizer, voice(1))).text in ("", "you")


@given(st.text(max_size=60), st.lists(st.integers(0, 400), max_size=8), st.booleans())
def test_an_answer_may_come_in_pieces_of_any_size(text: str, cuts: list[int], streams: bool) -> None:
    answer = TranscriptionAnswer("text/event-stream; charset=utf-8" if streams else "application/json")
    event = {"type": "transcript.text.done", "text": text} if streams else {"text": text}
    sent = (b"data: " if streams else b"") + json.dumps(event, ensure_ascii=False).encode(errors="replace")
    place = 0
    for cut in sorted(cuts):
        answer.feed(sent[place:cut])
        place = max(place, cut)
    answer.feed(sent[place:])
    assert answer.finish() == Recognition(text.encode(errors="replace").decode().strip())


@given(st.binary(max_size=200), st.sampled_from(["text/event-stream", "application/json", ""]))
def test_foreign_bytes_are_a_bad_answer(data: bytes, kind: str) -> None:
    answer = TranscriptionAnswer(kind)
    with suppress(BadAnswer):
        answer.feed(b"data: " + data)
        answer.finish()


# ---- what the server can


async def test_a_server_that_ignores_stream_is_asked_for_segments(server: OpenAIServer) -> None:
    server.transcripts = deque([Answer(body={"text": ""})])
    async with loaded(server, Answer(body={"text": "so it goes"})) as recognizer:
        await transcribed(recognizer, voice(2))
    assert {(asked.get("stream"), asked["response_format"]) for asked in server.requests(TRANSCRIPTIONS)} == {
        (None, "verbose_json")
    }


async def test_a_server_that_rejects_stream_and_segments_is_asked_for_plain_json(server: OpenAIServer) -> None:
    server.transcripts = deque([error(400, "no stream"), error(422, "no verbose_json"), Answer(body={"text": ""})])
    async with loaded(server, Answer(body={"text": "so it goes"})) as recognizer:
        assert (await transcribed(recognizer, voice(2))).text == "so it goes"
    assert {(asked.get("stream"), asked["response_format"]) for asked in server.requests(TRANSCRIPTIONS)} == {
        (None, "json")
    }


@pytest.mark.parametrize(
    ("models", "given", "chosen"),
    [
        ({"data": [{"id": "any-name"}]}, {}, "any-name"),
        ({"data": [{"id": "a", "task": "text-to-speech"}, {"id": "b", "task": "automatic-speech-recognition"}]}, {}, "b"),
        ({"data": [{"id": "llama"}, {"id": "Systran/faster-whisper-small"}]}, {}, "Systran/faster-whisper-small"),
        (None, {}, "whisper-1"),
        ({"data": []}, {}, "whisper-1"),
        (None, {"asr_model": "mine"}, "mine"),
        ({"data": [{"id": "mine"}, {"id": "whisper"}]}, {"asr_model": "mine"}, "mine"),
    ],
)  # fmt: skip
async def test_the_model_is_the_first_that_recognises_speech(
    server: OpenAIServer, models: Any, given: dict[str, str], chosen: str
) -> None:
    server.models = models
    async with loaded(server, **given) as recognizer:
        await transcribed(recognizer, voice(2))
    assert server.requests(TRANSCRIPTIONS)[0]["model"] == chosen


# ---- failures


@pytest.mark.parametrize(
    "failure",
    [
        error(500),
        error(429, **{"retry-after": "0"}),
        Answer((), None),
        Answer((b"<html>",), None),
        Answer(body=[]),
        Answer(body={"text": None}),
        Answer((b'data: {"type": "transcript.text.delta", "delta": "so"}\n\n',), None, headers=EVENTS),
        Answer((b'data: {"type": "transcript.text.delta", "delta": "so"}\n\n', 0.05, Cut), None, headers=EVENTS),
        Answer((b'data: {"error": {"message": "no memory"}}\n\n',), None, headers=EVENTS),
        Answer((b"data: nonsense\n\n",), None, headers=EVENTS),
        Answer((*[b": wait\n\n", 0.05] * 400,), None, headers=EVENTS),
        Answer((b" " * 300_000,) * 5, None),
        Answer((NEVER_S,), None),
    ],
    ids=["500", "429", "empty", "html", "list", "null", "no end", "cut", "error", "nonsense", "comments", "huge", "late"],
)  # fmt: skip
async def test_a_failed_request_is_made_once_more(server: OpenAIServer, failure: Answer) -> None:
    speech = voice(2)
    async with loaded(server, failure, heard("so it goes"), **QUICK) as recognizer:
        utterance = await recognizer.open("en")
        utterance._partials = False  # type: ignore[attr-defined]
        async with asyncio.timeout(HANG_S):
            await utterance.accept(speech)
            assert (await utterance.finish()).text == "so it goes"
        assert len(finals(server, speech)) == 2
        server.transcripts = deque([failure])
        await utterance.accept(speech)
        with pytest.raises(EndpointFailed, match=server.url):
            await utterance.finish()
        utterance.close()


@pytest.mark.parametrize(("status", "kind"), [(400, ValueError), (401, EndpointFailed), (404, EndpointFailed)])
async def test_a_permanent_error_is_not_retried(server: OpenAIServer, status: int, kind: type[Exception]) -> None:
    speech = voice(2)
    async with loaded(server, error(status, "no such language")) as recognizer:
        with pytest.raises(kind, match=f"{status} no such language"):
            await transcribed(recognizer, speech)
        assert len(server.requests(TRANSCRIPTIONS)) <= 2  # a partial one, and the last


async def test_a_failed_partial_transcript_does_not_fail_the_turn(server: OpenAIServer) -> None:
    server_fails = [True]
    server.transcribe = lambda form: error(500) if server_fails[0] else heard("so it goes")
    server_fails[0] = False
    async with loaded(server) as recognizer:
        server_fails[0] = True
        utterance = await recognizer.open("en")
        await utterance.accept(voice(1))
        await until(lambda: server.requests(TRANSCRIPTIONS))
        assert await utterance.accept(voice(1)) is None
        server_fails[0] = False
        assert (await utterance.finish()).text == "so it goes"
        utterance.close()


@pytest.mark.parametrize("final", [False, True])
async def test_a_stop_closes_the_connection(server: OpenAIServer, final: bool) -> None:
    late = Answer((b": wait\n\n", NEVER_S), None, headers=EVENTS)
    async with loaded(server, late, first_token_s=NEVER_S) as recognizer:
        utterance = await recognizer.open("en")
        await utterance.accept(voice(2))
        if final:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.5):
                    await utterance.finish()
        await until(lambda: server.requests(TRANSCRIPTIONS))
        utterance.close()
        await asyncio.wait_for(server.left.wait(), HANG_S)


async def test_closing_the_recogniser_ends_its_requests(server: OpenAIServer) -> None:
    late = Answer((b": wait\n\n", NEVER_S), None, headers=EVENTS)
    async with loaded(server, late, first_token_s=NEVER_S) as recognizer:
        utterance = await recognizer.open("en")
        await utterance.accept(voice(2))
        await until(lambda: server.requests(TRANSCRIPTIONS))
    await asyncio.wait_for(server.left.wait(), HANG_S)


# ---- load


async def test_what_is_waited_for_and_what_is_an_error_of_the_settings(server: OpenAIServer) -> None:
    nowhere = free_port_url()
    with pytest.raises(EngineNotReady, match=f"^{nowhere}: connection refused$"):
        await load(server, asr_url=nowhere)
    server.transcripts = deque([error(503, "Loading model")])
    with pytest.raises(EngineNotReady, match="503 Loading model"):
        await load(server)
    wrong: list[tuple[Answer, dict[str, Any], str]] = [
        (error(401, "bad key"), {}, "401 bad key. Set PARLEY_ASR_KEY"),
        (error(404, "Not Found"), {}, r"404 Not Found. Is PARLEY_ASR_URL complete .* PARLEY_ASR_MODEL\?"),
        (error(400, "no audio"), {}, "400 no audio"),
        (heard(), {"asr_model": "nova"}, "no model 'nova': .* has tiny-llm, whisper-small"),
        (heard(), {"asr_url": ""}, "PARLEY_ASR_KEY or OPENAI_API_KEY"),
    ]
    for answer, given_, says in wrong:
        server.transcripts = deque([answer])
        with pytest.raises(UnknownEngine, match=says) as refused:
            await load(server, **given_)
        assert not isinstance(refused.value, EngineNotReady)
    server.models = {"data": [{"id": "llama"}, {"id": "qwen"}]}
    with pytest.raises(UnknownEngine, match=r"set PARLEY_ASR_MODEL: .* has llama, qwen"):
        await load(server)


def test_a_url_alone_chooses_the_engine() -> None:
    assert Settings(asr_url="http://here/v1").asr_engine == "openai"
    assert Settings(asr_url="http://here/v1", asr_engine="sphinx").asr_engine == "sphinx"


# ---- a real model


@pytest.mark.models
async def test_human_speech_through_a_server_with_a_real_model(server: OpenAIServer, clips: Path) -> None:
    import faster_whisper

    whisper = faster_whisper.WhisperModel(str(light_model("whisper-tiny.en")), device="cpu", compute_type="int8")

    def transcribe(form: dict[str, Any]) -> Answer:
        segments = list(whisper.transcribe(io.BytesIO(form["file"]), language=form["language"], beam_size=1)[0])
        return heard(*(segment.text for segment in segments))

    server.transcribe = transcribe
    lines = [line.split("\t") for line in (clips / "transcripts.tsv").read_text().splitlines()]
    said = {row[0]: row[1] for row in lines}
    async with loaded(server, first_token_s=60) as recognizer:
        names = ("jfk.wav", "austen-0880.wav")
        texts = [(await transcribed(recognizer, read_speech(clips / name))).text for name in names]
    assert word_error_rate([said[name] for name in names], texts) <= ALLOWED_WER, texts


async def test_an_unexpected_error_of_one_partial_decoding_leaves_the_others_alone() -> None:
    answers = iter([RuntimeError("unexpected"), Recognition("hello")])

    async def transcribe(clip: Clip, *, retries: int) -> Recognition:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async with asyncio.TaskGroup() as tasks:
        decoder = openai._Decoder(tasks, transcribe)
        with pytest.raises(RuntimeError, match="unexpected"):
            await decoder.wait(decoder.submit(silent_clip(1, "en")))
        assert (await decoder.wait(decoder.submit(silent_clip(1, "en")))).text == "hello"
