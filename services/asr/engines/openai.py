"""A recogniser behind any server with `/v1/audio/transcriptions`: Speaches, vLLM, LocalAI, OpenAI and others.

The server gets the whole utterance each time, as WAV. While a person speaks, it is asked again and again for a partial
transcript, as an offline model on this machine is. OpenAI's own server is not: it charges for every second that it hears.
"""

import asyncio
import struct
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import AsyncExitStack, aclosing
from typing import Any, Literal

import structlog

from services.asr.engine import Utterance
from services.asr.engines.guards import without_hallucinations
from services.asr.engines.languages import model_language
from services.asr.engines.model import BYTES_PER_S, Clip, Recognition, silent_clip, without_control_tokens
from services.asr.engines.offline import OfflineUtterance
from services.asr.engines.transcription_answer import BadAnswer, TranscriptionAnswer
from shared.engines.endpoint_models import choose_model, recognises
from shared.engines.endpoints import BAD_REQUEST, Endpoint, EndpointFailed
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

log = structlog.get_logger()

DEFAULT_MODEL = "whisper-1"
"""OpenAI's name of Whisper. Most self-hosted servers accept the name for their own model."""
WARM_UP_S = 2.0

Format = Literal["stream", "verbose_json", "json"]
FORMATS: tuple[Format, ...] = ("stream", "verbose_json", "json")
"""The formats of an answer, the best first. Not all servers stream, and not all models know `verbose_json`."""


class OpenAIRecognizer:
    """See `engine.Recognizer`."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._resources = AsyncExitStack()
        self._model = ""
        self._format: Format = FORMATS[0]

    async def load(self) -> None:
        """Choose the model, and transcribe silence to find out which format the server answers in.

        Raises:
            EngineNotReady: the server does not answer yet.
            UnknownEngine: it refuses the key, or does not have the model.
        """
        settings = self._settings
        longest_s = max(settings.first_token_s, settings.next_token_s)
        self._endpoint = await asyncio.to_thread(Endpoint, settings.asr_url, settings.asr_key, longest_s, stage="asr")
        self._resources.push_async_callback(self._endpoint.close)
        try:
            self._model = await self._choose_model()
            self._format = await self._find_format()
        except EndpointFailed as error:
            raise self._endpoint.load_error(error) from error
        log.info("endpoint answers", endpoint=self._endpoint.url, model=self._model, format=self._format)
        tasks = await self._resources.enter_async_context(asyncio.TaskGroup())
        self._decoder = _Decoder(tasks, self._transcribe)
        self._resources.callback(self._decoder.cancel)

    async def _choose_model(self) -> str:
        listed = await self._endpoint.listed_models(self._after(self._settings.first_token_s))
        wanted = self._settings.asr_model
        if not wanted and (self._endpoint.hosted or not listed):
            return DEFAULT_MODEL
        only = len(listed or ()) == 1  # then it is the one, whatever its name
        return choose_model(
            wanted, listed, (lambda _: True) if only else recognises, "PARLEY_ASR_MODEL", self._endpoint.url
        )

    async def _find_format(self) -> Format:
        """Return the first format that the server does not reject; if it ignores `stream`, the next one."""
        clip = silent_clip(WARM_UP_S, self._language(self._settings.session.language))
        for form in FORMATS:
            try:
                _, streams = await self._request(clip, form)
            except EndpointFailed as error:
                if error.status not in BAD_REQUEST or form == FORMATS[-1]:
                    raise
            else:
                if form != "stream" or streams:
                    return form
        return FORMATS[-1]

    async def open(self, language: str, hints: str = "") -> Utterance:
        """See `engine.Recognizer`. An empty language, or `auto`, is detected by the server."""
        partials = not self._endpoint.hosted
        return OfflineUtterance(self._decoder, self._language(language), hints.strip(), partials=partials)

    def _language(self, language: str) -> str:
        return model_language(language, frozenset(), detects=True)

    async def _transcribe(self, clip: Clip, *, retries: int) -> Recognition:
        """Transcribe a clip.

        Raises:
            ValueError: the server rejects the request as invalid.
            EndpointFailed: it does not answer, stalls, or sends no transcript.
        """
        while True:
            try:
                recognition, _ = await self._request(clip, self._format)
                return without_hallucinations(recognition, clip.seconds)
            except EndpointFailed as error:
                if error.status in BAD_REQUEST:
                    raise ValueError(str(error)) from error
                if not retries or not error.transient:
                    raise
                log.warning("endpoint failed", endpoint=self._endpoint.url, reason=str(error))
                await asyncio.sleep(error.pause_s)
                retries -= 1

    async def _request(self, clip: Clip, form: Format) -> tuple[Recognition, bool]:
        """Make one attempt at a clip. Returns also whether the answer was a stream. A cancellation closes the connection."""
        deadline = self._after(self._settings.first_token_s)
        create = self._endpoint.client.audio.transcriptions.with_streaming_response.create
        file = ("speech.wav", as_wav(b"".join(clip.pieces)), "audio/wav")
        async with AsyncExitStack() as stack:
            stack.enter_context(self._endpoint.counted())
            async with self._endpoint.until(deadline):
                request = create(model=self._model, file=file, **_options(clip, form))
                response = await stack.enter_async_context(request)
            chunks = await stack.enter_async_context(aclosing(response.iter_bytes()))
            answer = TranscriptionAnswer(response.headers.get("content-type", ""))
            try:
                while True:
                    async with self._endpoint.until(deadline):
                        chunk = await anext(chunks, None)
                    if chunk is None:
                        return answer.finish(), answer.streams
                    if answer.feed(chunk):
                        deadline = self._after(self._settings.next_token_s)
            except BadAnswer as error:
                raise EndpointFailed(self._endpoint.url, str(error)) from error

    def _after(self, seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def close(self) -> None:
        await self._resources.aclose()


class _Decoder:
    """See `offline.Decoder`. Partial decodings run in a task group, so that no utterance waits for them."""

    def __init__(self, tasks: asyncio.TaskGroup, transcribe: Callable[..., Awaitable[Recognition]]) -> None:
        self._tasks, self._transcribe = tasks, transcribe
        self._partials: set[asyncio.Task[None]] = set()

    async def ask(self, clip: Clip) -> Recognition:
        """Transcribe the clip; a request that fails in passing is made once more. Raises as `_transcribe`."""
        return await self._transcribe(clip, retries=1)

    def submit(self, clip: Clip) -> Future[Recognition]:
        """Transcribe the clip in a task. Cancelling the future closes the connection."""
        future: Future[Recognition] = Future()
        task = self._tasks.create_task(self._answer(clip, future))
        self._partials.add(task)
        task.add_done_callback(self._partials.discard)
        future.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return future

    async def wait(self, future: Future[Recognition]) -> Recognition:
        """Return the answer to a clip that was submitted. Raises as `_transcribe`."""
        return await asyncio.wrap_future(future)

    async def _answer(self, clip: Clip, future: Future[Recognition]) -> None:
        try:
            recognition = await self._transcribe(clip, retries=0)
        except Exception as error:  # noqa: BLE001 - it is raised to whoever takes the answer, and must not end the other tasks
            future.set_exception(error)
        else:
            future.set_result(recognition)

    def cancel(self) -> None:
        for task in self._partials:
            task.cancel()


def _options(clip: Clip, form: Format) -> dict[str, Any]:
    """Return the parameters of a request, besides the model and the audio."""
    options: dict[str, Any] = {"response_format": "json" if form == "stream" else form}
    if form == "stream":
        options["stream"] = True
    if clip.language:
        options["language"] = clip.language
    if clip.hints:
        options["prompt"] = without_control_tokens(clip.hints)
    return options


def as_wav(pcm: bytes) -> bytes:
    """Return s16le audio of 16 kHz, mono, as a WAV file."""
    layout = struct.pack("<IHHIIHH", 16, 1, 1, RATE_HZ, BYTES_PER_S, 2, 16)
    return (
        b"RIFF" + struct.pack("<I", 36 + len(pcm)) + b"WAVEfmt " + layout + b"data" + struct.pack("<I", len(pcm)) + pcm
    )
