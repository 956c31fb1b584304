"""The base of the recognisers with an offline model: utterances of all sessions share its calls."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from services.asr.engine import Utterance
from services.asr.engines.guards import without_hallucinations
from services.asr.engines.languages import model_language
from services.asr.engines.model import Clip, Model, Recognition, silent_clip
from services.asr.engines.offline import OfflineUtterance
from shared.engines.batching import Batcher
from shared.engines.registry import EngineLost, UnknownEngine, first_line
from shared.settings import Settings


class OfflineRecognizer:
    """See `engine.Recognizer`. A subclass loads the model."""

    def __init__(self, settings: Settings) -> None:
        self.slots = settings.model_slots
        self._settings = settings
        self._model: Model
        self._batcher: Batcher[Clip, Recognition] | None = None

    def _load(self) -> Model:
        """Load the model. Runs in a thread.

        Raises:
            UnknownEngine: the model or a library is missing, or cannot be loaded.
        """
        raise NotImplementedError

    async def load(self) -> None:
        """See `engine.Recognizer`.

        Raises:
            UnknownEngine: the model or a library is missing, or does not run; or it does not know `PARLEY_LANGUAGE`.
            EngineLost: the device has failed.
        """
        self._model = await asyncio.to_thread(self._load)
        try:
            language = self._model_language(self._settings.session.language)
        except ValueError as error:
            raise UnknownEngine(f"PARLEY_LANGUAGE: {error}") from error
        try:
            await self._warm_up(language)
        except EngineLost:
            raise
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError) as error:
            raise UnknownEngine(
                f"the recogniser was loaded, but its first transcription failed: {first_line(error)}. If a file of the model "
                "may be damaged, delete it and download the model again."
            ) from error

    async def _warm_up(self, language: str) -> None:
        settings = self._settings
        most = settings.batch if self._model.supports_batching else 1
        self._batcher = Batcher(
            "asr",
            self._transcribe,
            most=most,
            wait_ms=settings.batch_ms,
            timeout_s=600 if settings.compile else 120,
            cost=lambda clip: clip.seconds,
        )
        for size in _batch_sizes(most if settings.compile else 1):
            await asyncio.gather(*(self._batcher.ask(silent_clip(3, language)) for _ in range(size)))

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        recognitions = self._model.transcribe(clips)
        return [
            without_hallucinations(recognition, clip.seconds)
            for recognition, clip in zip(recognitions, clips, strict=True)
        ]

    def recognize(self, clip: Clip) -> Recognition:
        """Transcribe one clip in the caller's thread, past the queue. For measurements; its language as in `open`."""
        (recognition,) = self._transcribe([replace(clip, language=self._model_language(clip.language))])
        return recognition

    async def open(self, language: str, hints: str = "") -> Utterance:
        """See `engine.Recognizer`. An empty language, or `auto`, is detected by models that can.

        Raises:
            ValueError: the model does not know the language, or cannot detect it.
        """
        assert self._batcher is not None, "load comes first"  # noqa: S101
        return OfflineUtterance(self._batcher, self._model_language(language), hints.strip())

    @property
    def languages(self) -> frozenset[str]:
        """See `engine.Multilingual`."""
        return self._model.languages

    def _model_language(self, language: str) -> str:
        return model_language(language, self._model.languages, detects=self._model.detects)

    async def close(self) -> None:
        if self._batcher is not None:
            await self._batcher.close()


def _batch_sizes(most: int) -> Sequence[int]:
    """Return the batch sizes to compile at start: powers of two up to `most`."""
    return [size for size in (1, 2, 4, 8, 16, 32, 64) if size <= most]
