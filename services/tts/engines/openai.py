"""A voice behind any server of `/v1/audio/speech`: OpenAI's own, Kokoro-FastAPI, Speaches, vLLM and others.

It sends no times of words, so what was heard of an interrupted sentence is estimated from its length.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

import structlog

from services.tts.engine import Speech
from shared.audio.loudness import Leveller
from shared.engines.endpoints import BAD_REQUEST, Endpoint, EndpointFailed
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

log = structlog.get_logger()

RATE_HZ = 24_000
"""What `pcm` means in this protocol: s16le, mono."""
SLOWEST, FASTEST = 0.25, 4.0
LEAST_BYTES, MOST_BYTES = RATE_HZ * 2 * 20 // 1000, RATE_HZ * 2 * 200 // 1000
"""Slices of 20 to 200 ms: a server may send a few bytes at a time, and each slice is a frame."""
LONGEST_HEADER = 65_536
DEFAULT_MODEL = "tts-1"
"""OpenAI's quick one, and a name that most servers of one's own take for theirs."""
VOICES = (
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
)
"""OpenAI's, as documented."""
KEY_NAMES = "PARLEY_TTS_KEY or OPENAI_API_KEY"
REFUSED = (401, 403)
PACKED = (b"ID3", b"OggS", b"fLaC", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2")
"""How MP3, Ogg and FLAC begin."""


class OpenAISynthesizer:
    """See `engine.Synthesizer`."""

    rate_hz = RATE_HZ

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._listed: tuple[str, ...] = ()
        self._opened = AsyncExitStack()
        self._leveller = Leveller(RATE_HZ)

    async def load(self) -> None:
        """Ask the server for its voices, and have it speak: so the loudness of the first is known.

        Raises:
            UnknownEngine: it cannot be reached, refuses the key, or does not know the model or the voice.
        """
        given = self._settings
        longest_s = max(given.first_token_s, given.next_token_s)
        self._endpoint = await asyncio.to_thread(
            Endpoint, given.tts_url, given.tts_key, KEY_NAMES, longest_s, stage="tts"
        )
        self._opened.push_async_callback(self._endpoint.close)
        try:
            self._listed = await self._list_voices()
            async for _ in self.speak("Ready.", voice="", speed=1.0, language="en"):
                pass
        except (EndpointFailed, ValueError) as error:
            raise UnknownEngine(f"PARLEY_TTS_ENGINE='openai': {error}") from error

    async def _list_voices(self) -> tuple[str, ...]:
        """The server's own voices; empty where it has no list of them."""
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

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`. What fails before the first audio is tried once more.

        Raises:
            ValueError: no such voice, or the server takes the request for a bad one.
            EndpointFailed: the server does not answer, stalls, or sends no speech.
        """
        voice = self._find_voice(voice)
        request = {
            "model": self._settings.tts_model or DEFAULT_MODEL,
            "voice": voice,
            "input": text,
            "speed": min(max(speed, SLOWEST), FASTEST),
            "response_format": "pcm",
        }
        if not text.strip():
            return
        begun = tried = False
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
                    if begun or tried or not error.transient:
                        raise
                    log.warning("endpoint failed", endpoint=self._endpoint.url, reason=str(error))
                    await asyncio.sleep(error.pause_s)
                    tried = True

    def _find_voice(self, voice: str) -> str:
        """A server without a list knows best itself which voices it has."""
        wanted = voice or self.voices()[0]
        if (self._listed or self._endpoint.hosted) and wanted not in (self._listed or self.voices()):
            raise ValueError(f"unknown voice {wanted!r}: there are {self._some_voices()}")
        return wanted

    def _some_voices(self) -> str:
        names = self._listed or VOICES
        return ", ".join(names[:8]) + (", …" if len(names) > 8 else "")

    async def _ask(self, request: dict[str, Any]) -> AsyncGenerator[bytes, None]:
        """One attempt at a sentence. Whoever closes it closes the connection."""
        deadline = self._after(self._settings.first_token_s)
        speech = self._endpoint.client.audio.speech.with_streaming_response.create(**request)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._endpoint.counted())
            async with self._endpoint.until(deadline):
                response = await stack.enter_async_context(speech)
            chunks = await stack.enter_async_context(aclosing(response.iter_bytes()))
            audio = _Audio(self._endpoint.url, response.headers.get("content-type", ""))
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
        await self._opened.aclose()


class _Audio:
    """Finds the samples in what a server sends, and cuts them into slices."""

    def __init__(self, url: str, kind: str) -> None:
        self._url, self._kind = url, kind.lower()
        self._held = bytearray()
        self._begun = self._spoken = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The slices that are whole by now; the odd byte and less than a slice are held back.

        Raises:
            EndpointFailed: that is no speech, or of another rate.
        """
        self._held += data
        self._begun = self._begun or self._find_samples()
        while self._begun and len(self._held) >= LEAST_BYTES:
            yield self._cut()

    def finish(self) -> Iterator[bytes]:
        """The rest. Raises `EndpointFailed` if there was no audio at all."""
        while self._begun and len(self._held) > 1:
            yield self._cut()
        if not self._spoken:
            raise EndpointFailed(f"{self._url}: no audio")

    def _cut(self) -> bytes:
        length = min(len(self._held) & ~1, MOST_BYTES)
        pcm = bytes(self._held[:length])
        del self._held[:length]
        self._spoken = True
        return pcm

    def _find_samples(self) -> bool:
        """Whether the samples have begun; what some servers send before them in spite of `pcm` is passed over."""
        held = bytes(self._held[:LONGEST_HEADER])
        if len(held) < 4:
            return False
        if self._kind.startswith(("text/", "application/json")) or (
            "pcm" not in self._kind and held.startswith(PACKED)
        ):
            raise EndpointFailed(f"{self._url}: sends {self._kind or 'something'} instead of pcm")
        if not held.startswith(b"RIFF"):
            return True
        place, layout = 12, b""
        while len(held) >= place + 8:
            kind, size = held[place : place + 4], int.from_bytes(held[place + 4 : place + 8], "little")
            place += 8
            if kind == b"data":
                self._check(layout)
                del self._held[:place]
                return True
            if kind == b"fmt ":
                layout = held[place : place + 16]
            place += size + size % 2
        if place + 8 > LONGEST_HEADER:
            raise EndpointFailed(f"{self._url}: sends a WAV without samples")
        return False

    def _check(self, layout: bytes) -> None:
        channels, rate_hz, bits = (int.from_bytes(layout[at:to], "little") for at, to in ((2, 4), (4, 8), (14, 16)))
        if (channels, rate_hz, bits) != (1, RATE_HZ, 16):
            raise EndpointFailed(
                f"{self._url}: sends {rate_hz} Hz, {channels} channels, {bits} bits instead of {RATE_HZ} Hz, 1, 16"
            )
