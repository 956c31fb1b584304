"""A synthesizer behind any server with `/v1/audio/speech`: OpenAI, Kokoro-FastAPI, Speaches, vLLM and others.

The protocol has no word times, so the heard part of an interrupted sentence is estimated from its length.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import structlog

from services.tts.engine import Speech
from shared.audio.loudness import Leveller
from shared.engines.endpoints import BAD_REQUEST, REFUSED, Endpoint, EndpointFailed
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

log = structlog.get_logger()

RATE_HZ = 24_000
"""Sample rate of the format `pcm` in this protocol, s16le mono."""
SLOWEST, FASTEST = 0.25, 4.0
MIN_BYTES, MAX_BYTES = RATE_HZ * 2 * 20 // 1000, RATE_HZ * 2 * 200 // 1000
"""Slices have 20 to 200 ms: a server may send a few bytes at a time, and each slice becomes a frame."""
MAX_HEADER = 65_536
DEFAULT_MODEL = "tts-1"
"""OpenAI's fast model. Most self-hosted servers accept the name for their own model."""
VOICES = (
    "alloy", "ash", "ballad", "cedar", "coral", "echo", "fable", "marin", "nova", "onyx", "sage", "shimmer", "verse",
)  # fmt: skip
"""OpenAI's documented voices."""
COMPRESSED = (b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")
"""The first bytes of MP3, Ogg and FLAC."""


class OpenAISynthesizer:
    """See `engine.Synthesizer`."""

    in_order = False
    rate_hz = RATE_HZ

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self.model_name = settings.tts_model or DEFAULT_MODEL
        self._settings = settings
        self._listed: tuple[str, ...] = ()
        self._resources = AsyncExitStack()
        self._leveller = Leveller(RATE_HZ)

    async def load(self) -> None:
        """List the server's voices, and synthesize once to measure the loudness of the default voice.

        Raises:
            EngineNotReady: the server does not answer yet.
            UnknownEngine: it refuses the key, or does not have the model or the voice.
        """
        settings = self._settings
        longest_s = max(settings.first_token_s, settings.next_token_s)
        self._endpoint = await asyncio.to_thread(Endpoint, settings.tts_url, settings.tts_key, longest_s, stage="tts")
        self._resources.push_async_callback(self._endpoint.close)
        try:
            self._listed = await self._list_voices()
            async for _ in self.speak("Ready.", voice="", speed=1.0, language="en"):
                pass
        except EndpointFailed as error:
            raise self._endpoint.load_error(error) from error
        except ValueError as error:
            raise UnknownEngine(f"PARLEY_TTS_ENGINE='openai': {error}") from error

    async def _list_voices(self) -> tuple[str, ...]:
        """Return the server's voices; empty if it has no list."""
        try:
            async with self._endpoint.until(self._after(self._settings.first_token_s)):
                answer = await self._endpoint.client.get("/audio/voices", cast_to=object)
        except EndpointFailed as error:
            if error.transient or error.status in REFUSED:
                raise
            return ()
        listed = answer.get("voices") if isinstance(answer, dict) else answer
        entries = listed if isinstance(listed, list) else ()
        names = [entry.get("id") or entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
        return tuple(dict.fromkeys(name for name in names if name and isinstance(name, str)))

    def voices(self) -> tuple[str, ...]:
        first = self._settings.session.voice
        return tuple(dict.fromkeys(filter(None, (first, *(self._listed or VOICES)))))

    def text_language(self, voice: str, language: str) -> str:
        """The models behind these servers read written text themselves, in many languages."""
        return ""

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`. A request that fails before the first audio is retried once.

        Raises:
            ValueError: the voice is unknown, or the server rejects the request as invalid.
            EndpointFailed: the server does not answer, stalls, or sends no speech.
        """
        voice = self._find_voice(voice)
        request = {
            "model": self.model_name,
            "voice": voice,
            "input": text,
            "speed": min(max(speed, SLOWEST), FASTEST),
            "response_format": "pcm",
        }
        if not text.strip():
            return
        begun = retried = False
        with self._leveller.sentence(voice) as sentence:
            while True:
                try:
                    async with aclosing(self._ask(request)) as slices:
                        async for pcm in slices:
                            begun = True
                            yield Speech(sentence.feed(pcm))
                    return
                except EndpointFailed as error:
                    if error.status in BAD_REQUEST:
                        raise ValueError(f"{error} (voices: {self._some_voices()})") from error
                    if begun or retried or not error.transient:
                        raise
                    log.warning("endpoint failed", endpoint=self._endpoint.url, reason=str(error))
                    await asyncio.sleep(error.pause_s)
                    retried = True

    def _find_voice(self, voice: str) -> str:
        """Return the voice to request. Without a list the server itself decides whether it has the voice."""
        wanted = voice or self.voices()[0]
        if (self._listed or self._endpoint.hosted) and wanted not in (self._listed or self.voices()):
            raise ValueError(f"unknown voice {wanted!r}; available: {self._some_voices()}")
        return wanted

    def _some_voices(self) -> str:
        names = self._listed or VOICES
        return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")

    async def _ask(self, request: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """Make one attempt at a sentence. Closing the generator closes the connection."""
        deadline = self._after(self._settings.first_token_s)
        speech = self._endpoint.client.audio.speech.with_streaming_response.create(**request)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._endpoint.counted())
            async with self._endpoint.until(deadline):
                response = await stack.enter_async_context(speech)
            chunks = await stack.enter_async_context(aclosing(response.iter_bytes()))
            audio = _PcmReader(self._endpoint.url, response.headers.get("content-type", ""))
            while True:
                async with self._endpoint.until(deadline):
                    chunk = await anext(chunks, None)
                if chunk is None:
                    break
                for pcm in audio.feed(chunk):
                    yield pcm
                    deadline = self._after(self._settings.next_token_s)
            for pcm in audio.finish():
                yield pcm

    def _after(self, seconds: float) -> float:
        return asyncio.get_running_loop().time() + seconds

    async def close(self) -> None:
        await self._resources.aclose()


class _PcmReader:
    """Finds the samples in the bytes of a response, and cuts them into slices. Skips a WAV header."""

    def __init__(self, url: str, content_type: str) -> None:
        self._url, self._content_type = url, content_type.lower()
        self._buffer = bytearray()
        self._in_samples = self._any_audio = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the slices that are complete. Shorter rests and half samples stay in the buffer.

        Raises:
            EndpointFailed: the response is not PCM at 24 kHz mono.
        """
        self._buffer += data
        self._in_samples = self._in_samples or self._find_samples()
        while self._in_samples and len(self._buffer) >= MIN_BYTES:
            yield self._cut()

    def finish(self) -> Iterator[bytes]:
        """Yield the rest. Raises `EndpointFailed` if there was no audio at all."""
        while self._in_samples and len(self._buffer) > 1:
            yield self._cut()
        if not self._any_audio:
            raise EndpointFailed(self._url, "no audio")

    def _cut(self) -> bytes:
        length = min(len(self._buffer) & ~1, MAX_BYTES)
        pcm = bytes(self._buffer[:length])
        del self._buffer[:length]
        self._any_audio = True
        return pcm

    def _find_samples(self) -> bool:
        """Whether the buffer starts with samples. Removes a WAV header, which some servers send in spite of `pcm`."""
        head = bytes(self._buffer[:MAX_HEADER])
        if len(head) < 4:
            return False
        if self._content_type.startswith(("text/", "application/json")) or (
            "pcm" not in self._content_type and head.startswith(COMPRESSED)
        ):
            sent = self._content_type or "an unknown format"
            raise EndpointFailed(self._url, f"sends {sent} instead of pcm", lasting=True)
        if not head.startswith(b"RIFF"):
            return True
        position, layout = 12, b""
        while len(head) >= position + 8:
            kind, size = head[position : position + 4], int.from_bytes(head[position + 4 : position + 8], "little")
            position += 8
            if kind == b"data":
                self._check(layout)
                del self._buffer[:position]
                return True
            if kind == b"fmt ":
                layout = head[position : position + 16]
            position += size + size % 2
        if position + 8 > MAX_HEADER:
            raise EndpointFailed(self._url, "sends a WAV file without samples")
        return False

    def _check(self, layout: bytes) -> None:
        channels, rate_hz, bits = (int.from_bytes(layout[at:to], "little") for at, to in ((2, 4), (4, 8), (14, 16)))
        if (channels, rate_hz, bits) != (1, RATE_HZ, 16):
            sent = f"{rate_hz} Hz, {channels} channels, {bits} bits"
            raise EndpointFailed(self._url, f"sends {sent} instead of {RATE_HZ} Hz, 1, 16", lasting=True)
