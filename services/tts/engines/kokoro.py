"""Kokoro, 82 million parameters, nine languages, 24 kHz; by its authors' package `kokoro`, from files that are here.

Sentences are spoken one at a time, each in one call for each piece of it: the model normalises over time (instance norms),
so that the padding of a batch would change what is heard. A GPU speaks a sentence in a few percent of its length.
"""

import asyncio
import warnings
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from services.tts.engine import Speech
from services.tts.engines.phonemes import LANGUAGES, Pronounced, Speller, letter, pieces, speller
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
"""Of the durations that the model predicts: 40 in a second (kokoro's `join_timestamps`)."""
FIRST_VOICE = "af_heart"
SLOWEST, FASTEST = 0.5, 2.0
WARM_UP = ("Hi.", "Ready when you are.", "This one is a little longer, so that the usual lengths have been met before.")


@dataclass(frozen=True, slots=True)
class _Sentence:
    """Text to be written in phonemes."""

    text: str
    code: str


@dataclass(frozen=True, slots=True)
class _Piece:
    """Phonemes to be spoken."""

    words: Sequence[Pronounced]
    voice: str
    speed: float


class KokoroSynthesizer:
    """See `engine.Synthesizer`. A voice may be a mixture: `af_heart+af_bella`, or `af_heart:2+am_adam:1`."""

    rate_hz = RATE_HZ

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._name = settings.tts_model or MODEL
        self._batcher: Batcher[_Sentence | _Piece, Any] | None = None
        self._device: Device
        self._model: Any = None
        self._folder: Path
        self._names: tuple[str, ...] = ()
        self._spellers: dict[str, Speller] = {}
        self._styles: dict[str, Any] = {}

    async def load(self) -> None:
        """Raises `UnknownEngine` if the model, or what runs it, is not there."""
        await asyncio.to_thread(self._load)
        self._batcher = Batcher("tts", self._answer, most=1, wait_ms=0)
        for text in WARM_UP:
            async for _ in self.speak(text, voice="", speed=1.0, language=self._settings.session.language):
                pass

    def _load(self) -> None:
        try:
            from kokoro import KModel
            from loguru import logger
        except ImportError as error:
            raise UnknownEngine(not_installed("The kokoro engine", "neural", error.name)) from error
        logger.disable("kokoro")  # it logs what is spoken
        self._folder = find_model(self._name)
        weights = sorted(self._folder.glob("kokoro*.pth"))
        if not weights:
            raise UnknownEngine(f"{self._name} is no Kokoro: there is no kokoro*.pth in {self._folder}")
        self._names = _sorted(path.stem for path in self._folder.glob("voices/*.pt"))
        if not self._names:
            raise UnknownEngine(f"{self._name}: there is no voice in {self._folder}/voices")
        self._device = open_device(self._settings)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # its way of normalising weights is deprecated
                model = KModel(repo_id=self._name, config=str(self._folder / "config.json"), model=str(weights[0]))
        except (KeyError, TypeError, AssertionError, RuntimeError) as error:
            raise UnknownEngine(f"{self._name} is no Kokoro that can be loaded: {error!r}") from error
        self._model = model.to(self._device.name).eval()

    def voices(self) -> tuple[str, ...]:
        return self._names

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`.

        Raises:
            ValueError: no such voice, or none for that language.
        """
        chosen, code = self._choose(voice, language)
        speed = min(max(speed, SLOWEST), FASTEST)
        assert self._batcher is not None, "load comes first"  # noqa: S101
        words: list[Pronounced] = await self._batcher.ask(_Sentence(text, code))
        parts, said = pieces(words), 0
        for number, part in enumerate(parts, 1):
            wave, timings = await self._batcher.ask(_Piece(part, chosen, speed), urgent=number == 1)
            after_ms = pause_ms(text if number == len(parts) else part[-1].phonemes) / speed
            shaped, moved = shape(wave, RATE_HZ, after_ms, timings)
            for piece in slices(shaped, RATE_HZ, moved, said):
                yield piece
            said += len(shaped)

    def _choose(self, voice: str, language: str) -> tuple[str, str]:
        """The voice, and Kokoro's letter for the language that it is to speak."""
        wanted = letter(language)
        if not voice:
            if wanted is None:
                known = ", ".join(sorted(LANGUAGES))
                raise ValueError(f"Kokoro does not speak {language!r}: it knows {known}")
            voice = next((name for name in self._names if name[0] == wanted), self._names[0])
        for name, _ in mixture(voice):
            if name not in self._names:
                raise ValueError(f"unknown voice {name!r}: there are {', '.join(self._names[:8])}, …")
        own = voice[0]
        if wanted is None or (wanted in "ab" and own in "ab"):
            return voice, own  # a British voice speaks British English
        return voice, wanted

    # What follows runs in the batcher's thread.

    def _answer(self, questions: Sequence[_Sentence | _Piece]) -> list[Any]:
        return [self._spell(one) if isinstance(one, _Sentence) else self._say(one) for one in questions]

    def _spell(self, sentence: _Sentence) -> list[Pronounced]:
        if sentence.code not in self._spellers:
            self._spellers[sentence.code] = speller(sentence.code)
        return self._spellers[sentence.code](sentence.text)

    def _say(self, piece: _Piece) -> tuple[Waveform, list[Word]]:
        """The piece's waveform, and when each of its words sounds by the durations that the model predicted."""
        vocabulary = self._model.vocab
        # The model drops the phonemes that it does not know: so must the count of those of each word.
        known = ["".join(char for char in word.phonemes if char in vocabulary) for word in piece.words]
        phonemes = " ".join(known)
        if not phonemes.strip():
            return np.zeros(0, np.float32), []
        pack = self._style(piece.voice)
        output = self._model(phonemes, pack[len(phonemes) - 1], piece.speed, return_output=True)
        frames = [0, *np.cumsum(output.pred_dur.numpy()).tolist()]
        words, at = [], 1  # one frame group for the beginning of the sentence
        for word, sounds in zip(piece.words, known, strict=True):
            start, end = frames[at], frames[min(at + len(sounds), len(frames) - 1)]
            words.append(Word(word.word, start * SAMPLES_PER_FRAME, end * SAMPLES_PER_FRAME))
            at = min(at + len(sounds) + 1, len(frames) - 1)  # and the blank after it
        return output.audio.numpy(), words

    def _style(self, voice: str) -> Any:
        """The style vectors of a voice or a mixture, by the number of phonemes."""
        if voice not in self._styles:
            import torch

            packs = [
                torch.load(self._folder / "voices" / f"{name}.pt", weights_only=True) * share
                for name, share in mixture(voice)
            ]
            self._styles[voice] = torch.stack(packs).sum(dim=0).to(self._device.name)
        return self._styles[voice]

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()


def mixture(voice: str) -> list[tuple[str, float]]:
    """The voices that a name stands for, and the share of each; the shares add up to 1.

    Raises:
        ValueError: a share is no positive number.
    """
    parts = []
    for part in voice.replace(",", "+").split("+"):
        name, _, share = part.strip().partition(":")
        try:
            weight = float(share or 1)
        except ValueError:
            weight = 0.0
        if not 0 < weight < 1e6:
            raise ValueError(f"voice {voice!r}: {share!r} is no share; as in af_heart:2+af_bella:1")
        parts.append((name, weight))
    total = sum(weight for _, weight in parts)
    return [(name, weight / total) for name, weight in parts]


def _sorted(names: Iterable[str]) -> tuple[str, ...]:
    """By name, the default voice first."""
    return tuple(sorted(names, key=lambda name: (name != FIRST_VOICE, name)))
