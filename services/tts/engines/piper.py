"""Piper: voices of 20 to 30 million parameters in some fifty languages, made for CPUs, in onnxruntime.

A sentence is planned as a whole, which keeps its melody, and decoded in stretches: the first one is short, so that
speech starts early, and a sentence that is interrupted costs at most one stretch more. One thread runs the stretches
of all sessions in turn. They do not share calls: on a CPU a stretch in a batch takes as long as alone, or longer.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from soxr import ResampleStream

from services.tts.engine import Speech
from services.tts.engines.languages import two_letters
from services.tts.engines.piper_voice import PiperVoice, Planned, find_voices
from services.tts.engines.pronunciation import Pronounced, pieces
from services.tts.engines.waveform import Trimmer, Waveform, pause, pause_ms, slices
from shared.audio.loudness import Leveller, block_powers
from shared.engines.batching import Batcher
from shared.engines.devices import cpu_threads
from shared.engines.models import as_folder, find_model, model_name
from shared.engines.registry import UnknownEngine, first_line
from shared.settings import Settings

FIRST_MS, LONGEST_MS = 300, 2400
"""Length of the first stretch that is decoded, and of the longest. Each is up to twice as long as the one before."""
SLOWEST, FASTEST = 0.5, 2.0
WARM_UP = ("Hi.", "Hello there, how are you today?", "This is longer, so that the usual lengths have been met before.")
"""They also teach the level of the voice. Its sentences differ by up to 5 dB, so they are of different kinds."""


class PiperSynthesizer:
    """See `engine.Synthesizer`. A speaker of a voice with several is named voice/speaker."""

    in_order = True
    rate_hz = 22_050
    """The highest rate of the voices, once they are loaded; the others are resampled to it."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self.model_name = model_name("tts", "piper", settings.tts_model, "cpu")
        self._batcher: Batcher[Callable[[], Any], Any] | None = None
        self._voices: dict[str, PiperVoice] = {}
        self._names: tuple[str, ...] = ()
        self._leveller = Leveller(self.rate_hz)

    async def load(self) -> None:
        """Read all voices, and load the one for the language of new sessions. Others are loaded when they first speak.

        Raises:
            UnknownEngine: a voice or the library is missing, damaged, or no voice speaks the language.
        """
        voices = await asyncio.to_thread(
            lambda: find_voices(_find(self.model_name, self._settings.models_dir), cpu_threads(self._settings))
        )
        self._voices = {voice.name: voice for voice in voices}
        self._names = tuple(name for voice in voices for name in voice.names())
        self.rate_hz = max(voice.rate_hz for voice in voices)
        self._leveller = Leveller(self.rate_hz)
        self._batcher = Batcher("tts", lambda calls: [call() for call in calls], most=1, wait_ms=0)
        try:
            for text in WARM_UP:
                async for _ in self.speak(text, voice="", speed=1.0, language=self._settings.session.language):
                    pass
        except UnknownEngine:
            raise
        except (ValueError, RuntimeError) as error:
            raise UnknownEngine(f"{self.model_name} cannot speak here: {first_line(error)}") from error

    def voices(self) -> tuple[str, ...]:
        return self._names

    def languages(self) -> frozenset[str]:
        """See `engine.Multilingual`."""
        return frozenset(two_letters(voice.language) for voice in self._voices.values())

    def voice_language(self, voice: str) -> str:
        return self._voices[voice.partition("/")[0]].language

    def text_language(self, voice: str, language: str) -> str:
        """Piper reads a text in the language of the voice, with espeak-ng's rules for written forms."""
        return self.voice_language(self._choose(voice, language))

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`.

        Raises:
            ValueError: the voice is unknown or damaged, or no voice speaks the language.
        """
        name = self._choose(voice, language)
        chosen = self._voices[name.partition("/")[0]]
        speaker, speed, sent = chosen.speaker(name), min(max(speed, SLOWEST), FASTEST), 0
        sentences: list[list[Pronounced]] = await self._ask(partial(chosen.sentences, text))
        parts = [part for sentence in sentences for part in pieces(sentence)]
        with self._leveller.sentence(name) as levelled:
            for number, part in enumerate(parts):
                plan = partial(chosen.plan, part, speaker, speed, self.rate_hz)
                planned: Planned = await self._ask(plan, urgent=number == 0)
                trimmer = Trimmer(self.rate_hz, planned.words)
                async with aclosing(self._decode(chosen, planned, name, urgent=number == 0)) as waves:
                    async for wave, last in waves:
                        shaped, words = trimmer.feed(wave, last=last)
                        if last:
                            after = pause(self.rate_hz, pause_ms(part[-1].word) / speed)
                            shaped = np.concatenate((shaped, after))
                        for piece in slices(shaped, self.rate_hz, words, sent):
                            yield Speech(levelled.feed(piece.pcm), piece.words)
                        sent += len(shaped)

    async def _decode(
        self, voice: PiperVoice, planned: Planned, name: str, *, urgent: bool
    ) -> AsyncGenerator[tuple[Waveform, bool], None]:
        """Yield the waveform in stretches at the engine's rate, each with whether it is the last."""
        resampler = ResampleStream(voice.rate_hz, self.rate_hz, 1) if voice.rate_hz != self.rate_hz else None
        known, frames = self._leveller.knows(name), planned.utterance.frames
        for start, end in planned.stretches(FIRST_MS, LONGEST_MS) if known else [(0, frames)]:
            last = end == frames
            wave: Waveform = await self._ask(partial(voice.decode, planned, start, end), urgent=urgent and not start)
            if resampler is not None:
                wave = resampler.resample_chunk(wave, last=last)
            if not known:  # the level of the first sentence is its own: all of it is there before any of it is sent
                self._leveller.learn(name, block_powers(wave, self.rate_hz))
            yield wave, last

    async def _ask(self, call: Callable[[], Any], *, urgent: bool = True) -> Any:
        assert self._batcher is not None, "load comes first"  # noqa: S101
        return await self._batcher.ask(call, urgent=urgent)

    def _choose(self, voice: str, language: str) -> str:
        """Return one of the names of the voices, or the name of a voice with several speakers."""
        if voice:
            if voice in self._names or voice in self._voices:
                return voice
            listed = ", ".join(self._names[:8]) + ", …" * (len(self._names) > 8)
            raise ValueError(f"unknown voice {voice!r}; available: {listed}")
        wanted = language.lower().replace("_", "-")
        own = [one for one in self._voices.values() if one.language == wanted]
        related = [one for one in self._voices.values() if two_letters(one.language) == two_letters(wanted)]
        found = own or related or ([] if wanted else list(self._voices.values()))
        if not found:
            known = ", ".join(sorted({one.language for one in self._voices.values()}))
            raise ValueError(f"{self.model_name} does not speak {language!r}, only {known}")
        return found[0].names()[0]

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()


def _find(name: str, models_dir: Path) -> Path:
    """Return the folder of voices, or the .onnx file of one. Raises `UnknownEngine` if there is neither."""
    if name.endswith(".onnx") and Path(name).expanduser().is_file():
        return Path(name).expanduser()
    return as_folder(name) or find_model(name, needs=(), models_dir=models_dir)
