"""Any transformers model that speaks: VITS and MMS (a model for each of a thousand languages), SpeechT5, CSM and
others.

The model's configuration selects the class (see `loading`). Sentences of all sessions share calls if the model allows
it. A batch collects while the previous call runs, so batching adds no waiting time.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass

from services.tts.engine import Speech
from services.tts.engines.languages import two_letters
from services.tts.engines.loading import load_model
from services.tts.engines.model import SILENCE, Abandoned, Model
from services.tts.engines.waveform import CLAUSE_PAUSE_MS, Waveform, pause_ms, shape, slices
from shared.engines.batching import Batcher
from shared.engines.devices import device_kind, open_device
from shared.engines.models import find_model, model_name
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

SLOWEST, FASTEST = 0.5, 2.0
FIRST_LONGEST = 120
"""Characters of a sentence's first call, if it can be cut at punctuation: speech starts after this call."""
CALL_S = 300.0
"""Timeout of a call. On a CPU large models are slower than real time, and other sentences may be queued before."""
WARM_UP = ("Hi.", "Ready when you are.", "This one is a little longer, so that the usual lengths have been met before.")


@dataclass(frozen=True, slots=True)
class _Piece:
    """A text for one call."""

    text: str
    voice: str
    speed: float
    wanted: Callable[[], bool]


class TransformersSynthesizer:
    """See `engine.Synthesizer`."""

    in_order = True
    rate_hz = 16_000
    """The rate of the model, once it is loaded."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self.model_name = model_name("tts", "transformers", settings.tts_model, device_kind(settings))
        self._model: Model
        self._batcher: Batcher[_Piece, Waveform] | None = None

    async def load(self) -> None:
        self._model = await asyncio.to_thread(self._load)
        self.rate_hz = self._model.rate_hz
        most = self._settings.batch if self._model.batches else 1
        self._batcher = Batcher(
            "tts", self._speak_batch, most=most, wait_ms=0, timeout_s=CALL_S, cost=lambda piece: len(piece.text)
        )
        try:
            for text in WARM_UP:
                async for _ in self.speak(text, voice="", speed=1.0, language=self._settings.session.language):
                    pass
        except (ValueError, LookupError, RuntimeError, ImportError) as error:
            raise UnknownEngine(f"{self.model_name} cannot speak here: {error}") from error

    def _load(self) -> Model:
        return load_model(find_model(self.model_name), open_device(self._settings), self._settings)

    def voices(self) -> tuple[str, ...]:
        return self._model.voices

    def languages(self) -> frozenset[str]:
        """See `engine.Multilingual`."""
        return self._model.languages

    def voice_language(self, voice: str) -> str:
        """The model's language if it has only one; Bark names its voices en_speaker_1, MMS-like models have no names."""
        languages = self._model.languages
        if len(languages) == 1:
            return next(iter(languages))
        named = re.search(r"(^|/)([a-z]{2})_", voice)
        return named[2] if named and named[2] in languages else ""

    def text_language(self, voice: str, language: str) -> str:
        """The tokenizers of these models know few digits and signs."""
        return self.voice_language(self._choose(voice, language)) or language

    async def speak(self, text: str, *, voice: str, speed: float, language: str) -> AsyncGenerator[Speech, None]:
        """See `engine.Synthesizer`. The slices have no words: these models do not report word times."""
        chosen = self._choose(voice, language)
        speed = min(max(speed, SLOWEST), FASTEST)
        assert self._batcher is not None, "load comes first"  # noqa: S101
        prepared = await asyncio.to_thread(self._model.prepare, text)
        parts, wanted = pieces(prepared, self._model.longest), True
        try:
            for number, part in enumerate(parts, 1):
                wave = await self._batcher.ask(_Piece(part, chosen, speed, lambda: wanted), urgent=number == 1)
                after_ms = pause_ms(text if number == len(parts) else part) / speed
                shaped, _ = shape(wave, self.rate_hz, after_ms)
                for piece in slices(shaped, self.rate_hz):
                    yield piece
        finally:
            wanted = False

    def _choose(self, voice: str, language: str) -> str:
        languages, voices = self._model.languages, self._model.voices
        if language and languages and two_letters(language) not in languages:
            known = ", ".join(sorted(languages))
            raise ValueError(
                f"{self.model_name} does not speak {language!r}, only {known} (MMS has a model for each language: "
                "PARLEY_TTS_MODEL=facebook/mms-tts-… with the code of ISO 639-3)"
            )
        if voice and voice not in voices:
            raise ValueError(f"unknown voice {voice!r}; available: {', '.join(voices[:8])}{', …' * (len(voices) > 8)}")
        of_language = re.compile(rf"(^|/){re.escape(two_letters(language))}_")  # in the names of Bark's voices
        return voice or next((name for name in voices if of_language.search(name)), voices[0])

    def _speak_batch(self, batch: Sequence[_Piece]) -> list[Waveform]:
        """Speak pieces in the model's thread, one call for each combination of voice and speed."""
        waves: list[Waveform] = [SILENCE] * len(batch)
        groups: dict[tuple[str, float], list[int]] = {}
        for index, piece in enumerate(batch):
            groups.setdefault((piece.voice, piece.speed), []).append(index)
        for (voice, speed), indexes in groups.items():
            members = [batch[index] for index in indexes]
            try:
                spoken = self._model.speak([one.text for one in members], voice, speed, _any_of(members))
            except Abandoned:
                continue  # all of them were cancelled
            for index, wave in zip(indexes, spoken, strict=True):
                waves[index] = wave
        return waves

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()


def _any_of(pieces: Sequence[_Piece]) -> Callable[[], bool]:
    return lambda: any(piece.wanted() for piece in pieces)


def pieces(text: str, longest: int) -> list[str]:
    """Cut a text into pieces of at most `longest` characters, preferably after punctuation; the first piece is short if
    possible.
    """
    found: list[str] = []
    rest = [word[at : at + longest] for word in text.split() for at in range(0, len(word), longest)]
    while rest:
        size, fits, punctuated, early = -1, 0, 0, 0
        for count, word in enumerate(rest, 1):
            size += 1 + len(word)
            if size > longest:
                break
            fits = count
            if pause_ms(word) >= CLAUSE_PAUSE_MS:
                punctuated = count
                early = count if size <= FIRST_LONGEST else early
        cut = fits if fits == len(rest) else punctuated or fits
        if not found and early and size > FIRST_LONGEST:
            cut = early
        found.append(" ".join(rest[:cut]))
        rest = rest[cut:]
    return found
