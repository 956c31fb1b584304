"""Any speech recognition model of transformers, by its name: Whisper, Moonshine, Parakeet, Voxtral and others.

Utterances of all sessions share calls of the model. An offline model transcribes whole clips (`offline`); a streaming
model takes audio as it is spoken (`streaming`).
"""

from services.asr.engine import Utterance
from services.asr.engines.loading import load_model
from services.asr.engines.model import Model
from services.asr.engines.offline_recognizer import OfflineRecognizer
from services.asr.engines.streaming import StreamPool
from services.asr.engines.voxtral_realtime import VoxtralRealtime
from shared.engines.devices import device_kind, open_device
from shared.engines.models import find_model, model_name
from shared.settings import Settings


class TransformersRecognizer(OfflineRecognizer):
    """See `engine.Recognizer`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._streams: StreamPool | None = None  # of a streaming model

    def _load(self) -> Model:
        self.model_name = name = model_name(
            "asr", "transformers", self._settings.asr_model, device_kind(self._settings)
        )
        return load_model(find_model(name), open_device(self._settings), self._settings)

    async def _warm_up(self, language: str) -> None:
        if isinstance(self._model, VoxtralRealtime):
            self._streams = StreamPool(self._model, self._settings)
            await self._streams.warm_up()
        else:
            await super()._warm_up(language)

    async def open(self, language: str, hints: str = "") -> Utterance:
        if self._streams is not None:
            return await self._streams.open(self._model_language(language))
        return await super().open(language, hints)

    async def close(self) -> None:
        if self._streams is not None:
            await self._streams.close()
        await super().close()
