"""Kokoro: 82 million parameters, nine languages, 24 kHz. Runs with its authors' package `kokoro` and local files.

Sentences do not share calls: the model normalizes over time (instance norms), so the padding of a batch would change
the audio. A GPU synthesizes a sentence in a few percent of its length.
"""

import asyncio
import warnings
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.tts.engine import Speech
from services.tts.engines.phonemes import LANGUAGES, Phonemizer, installed_languages, language_code, load_phonemizer
from services.tts.engines.pronunciation import Pronounced, pieces
from services.tts.engines.waveform import Waveform, pause_ms, shape, slices
from shared.distribution import not_installed
from shared.engines.batching import Batcher
from shared.engines.devices import Device, open_device
from shared.engines.models import find_model
from shared.engines.registry import UnknownEngine
from shared.protocol.session import Word
from shared.settings import Settings

MODEL = "hexgrad/Kokoro-82M"
RATE_HZ = 24_000
SAMPLES_PER_FRAME = 600
"""The unit of the predicted durations: 40 frames per second (kokoro's `join_timestamps`)."""
FIRST_VOICE = "af_heart"
SLOWEST, FASTEST = 0.5, 2.0
VOICE_LANGUAGES = {code: tag for tag, code in LANGUAGES.items()} | {"a": "en-US", "b": "en-GB", "p": "pt-BR"}
"""The language of a voice, by the first letter of its name."""
WARM_UP = ("Hi.", "Ready when you are.", "This one is a little longer, so that the usual lengths have been met before.")


@dataclass(frozen=True, slots=True)
class _Sentence:
    """A text to convert to phonemes."""

    text: str
    code: str
    """Kokoro's letter for the language."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Phonemes to speak in one call."""

    words: Sequence[Pronounced]
    voice: str
    speed: float


class KokoroSynthesizer:
    """See `engine.Synthesizer`. A voice may be a mix: `af_heart+af_bella`, or with weights `af_heart:2+am_adam:1`."""

    in_order = True
    rate_hz = RATE_HZ

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self.model_name = settings.tts_model or MODEL
        self._batcher: Batcher[_Sentence | _Piece, Any] | None = None
        self._device: Device
        self._model: Any = None
        self._folder: Path
        self._names: tuple[str, ...] = ()
        self._phonemizers: dict[str, Phonemizer] = {}
        self._styles: dict[str, Any] = {}

    async def load(self) -> None:
        await asyncio.to_thread(self._load)
        self._batcher = Batcher("tts", self._run, most=1, wait_ms=0)
        for text in WARM_UP:
            async for _ in self.speak(text, voice="", speed=1.0, language=self._settings.session.language):
                pass

    def _load(self) -> None:
        try:
            from kokoro import KModel
            from loguru import logger
        except ImportError as error:
            raise UnknownEngine(not_installed("The kokoro engine", "neural", error.name)) from error
        logger.disable("kokoro")  # it logs the spoken text
        self._folder = find_model(self.model_name)
        weights = sorted(self._folder.glob("kokoro*.pth"))
        if not weights:
            raise UnknownEngine(f"{self.model_name} is not a Kokoro model: {self._folder} has no kokoro*.pth")
        self._names = _default_first(path.stem for path in self._folder.glob("voices/*.pt"))
        if not self._names:
            raise UnknownEngine(f"{self.model_name}: {self._folder}/voices has no voice (*.pt)")
        self._device = open_device(self._settings)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch deprecates its weight normalization
                model = KModel(repo_id=self.model_name, config=str(self._folder / "config.json"), model=str(weights[0]))
        except (KeyError, TypeError, AssertionError, RuntimeError) as error:
            raise UnknownEngine(f"{self.model_name} is not a Kokoro model that can be loaded: {error!r}") from error
        self._model = model.to(self._device.name).eval()

    def voices(self) -> tuple[str, ...]:
        return self._names

    def languages(self) -> frozenset[str]:
        """See `engine.Multilingual`."""
        return installed_languages()

    def voice_language(self, voice: str) -> str:
        """The language of a voice; empty if its phonemizer is not installed: the voice still speaks others."""
        language = VOICE_LANGUAGES.get(voice[0], "")
        return language if language.partition("-")[0] in self.languages() else ""

    def text_language(self, voice: str, language: str) -> str:
        """misaki reads numbers and money in English alone, and fewer forms than the stage, so it gets words."""
        _, code = self._choose(voice, language)
        return VOICE_LANGUAGES[code]

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        chosen, code = self._choose(voice, language)
        speed = min(max(speed, SLOWEST), FASTEST)
        assert self._batcher is not None, "load comes first"  # noqa: S101
        words: list[Pronounced] = await self._batcher.ask(_Sentence(text, code))
        parts, sent = pieces(words), 0
        for number, part in enumerate(parts, 1):
            wave, timings = await self._batcher.ask(_Piece(part, chosen, speed), urgent=number == 1)
            after_ms = pause_ms(text if number == len(parts) else part[-1].phonemes) / speed
            shaped, moved = shape(wave, RATE_HZ, after_ms, timings)
            for piece in slices(shaped, RATE_HZ, moved, sent):
                yield piece
            sent += len(shaped)

    def _choose(self, voice: str, language: str) -> tuple[str, str]:
        """Return the voice, and Kokoro's letter for the language."""
        wanted = language_code(language)
        if not voice:
            if wanted is None:
                known = ", ".join(sorted(LANGUAGES))
                raise ValueError(f"Kokoro does not speak {language!r}, only {known}")
            voice = next((name for name in self._names if name[0] == wanted), self._names[0])
        for name, _ in mix(voice):
            if name not in self._names:
                raise ValueError(f"unknown voice {name!r}; available: {', '.join(self._names[:8])}, …")
        own = voice[0]
        if wanted is None or (wanted in "ab" and own in "ab"):
            return voice, own  # "en" means the voice's own English, British or American
        return voice, wanted

    # The methods below run in the batcher's thread.

    def _run(self, jobs: Sequence[_Sentence | _Piece]) -> list[Any]:
        return [self._phonemize(job) if isinstance(job, _Sentence) else self._synthesize(job) for job in jobs]

    def _phonemize(self, sentence: _Sentence) -> list[Pronounced]:
        if sentence.code not in self._phonemizers:
            self._phonemizers[sentence.code] = load_phonemizer(sentence.code)
        return self._phonemizers[sentence.code](sentence.text)

    def _synthesize(self, piece: _Piece) -> tuple[Waveform, list[Word]]:
        """Return the piece's waveform and word times, which come from the durations that the model predicts."""
        vocabulary = self._model.vocab
        # The model drops unknown phonemes, so they must not count for the word times.
        known = ["".join(char for char in word.phonemes if char in vocabulary) for word in piece.words]
        phonemes = " ".join(known)
        if not phonemes.strip():
            return np.zeros(0, np.float32), []
        pack = self._style(piece.voice)
        output = self._model(phonemes, pack[len(phonemes) - 1], piece.speed, return_output=True)
        frames = [0, *np.cumsum(output.pred_dur.numpy()).tolist()]
        words, at = [], 1  # the first duration belongs to the start of the sentence
        for word, symbols in zip(piece.words, known, strict=True):
            start, end = frames[at], frames[min(at + len(symbols), len(frames) - 1)]
            words.append(Word(word.word, start * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME))
            at = min(at + len(symbols) + 1, len(frames) - 1)  # 1 for the space after the word
        return output.audio.numpy(), words

    def _style(self, voice: str) -> Any:
        """Return the style vectors of a voice or mix; the index is the number of phonemes minus 1."""
        if voice not in self._styles:
            import torch

            packs = [
                torch.load(self._folder / "voices" / f"{name}.pt", weights_only=True) * share
                for name, share in mix(voice)
            ]
            self._styles[voice] = torch.stack(packs).sum(dim=0).to(self._device.name)
        return self._styles[voice]

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()


def mix(voice: str) -> list[tuple[str, float]]:
    """Return the voices of a mix and their shares, which add up to 1.

    Raises:
        ValueError: a weight is not a positive number.
    """
    parts = []
    for part in voice.replace(",", "+").split("+"):
        name, _, given = part.strip().partition(":")
        try:
            weight = float(given or 1)
        except ValueError:
            weight = 0.0
        if not 0 < weight < 1e6:
            raise ValueError(f"voice {voice!r}: {given!r} is not a weight; example: af_heart:2+af_bella:1")
        parts.append((name, weight))
    total = sum(weight for _, weight in parts)
    return [(name, weight / total) for name, weight in parts]


def _default_first(names: Iterable[str]) -> tuple[str, ...]:
    """Sort by name, with the default voice first."""
    return tuple(sorted(names, key=lambda name: (name != FIRST_VOICE, name)))
