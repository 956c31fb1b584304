"""The base of all models: loads model and processor from a folder and prepares the input. Blocking, for one thread."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.asr.engines.model import Clip, Recognition
from services.asr.engines.word_timestamps import Span, timed_words
from shared.engines.devices import Device, quantized
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ, Word
from shared.settings import Settings

CHANGED_BY_PADDING = frozenset({"moonshine", "moonshine_streaming", "voxtral_realtime"})
"""Model types whose result depends on padding: Moonshine normalises over the whole clip, its streaming variant looks
ahead, and Voxtral Realtime writes on through the padding."""


class Pretrained:
    """See `model.Model`."""

    languages: frozenset[str] = frozenset()
    detects = False

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        """Load the model in `folder` as the class `architecture` of transformers.

        Raises:
            UnknownEngine: the feature extractor or weights are missing, or the sample rate is not 16 kHz.
        """
        import transformers

        library: Any = transformers
        library.logging.set_verbosity_error()  # it warns at every call about options that are set on purpose
        library.logging.disable_progress_bar()
        self._device, self._folder = device, str(folder)
        self._processor = library.AutoProcessor.from_pretrained(folder, local_files_only=True)
        # If a file is missing, AutoProcessor returns only the tokenizer, which would fail at the first clip.
        if not hasattr(self._processor, "feature_extractor"):
            raise UnknownEngine(
                f"{folder} has no feature extractor (processor_config.json or preprocessor_config.json is missing)"
            )
        model, info = getattr(library, architecture).from_pretrained(
            folder, dtype=device.dtype, local_files_only=True, output_loading_info=True
        )
        if missing := sorted(info["missing_keys"]):  # the library initialises them with random numbers
            raise UnknownEngine(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
        rate_hz = getattr(self._processor.feature_extractor, "sampling_rate", RATE_HZ)
        if rate_hz != RATE_HZ:
            raise UnknownEngine(f"{folder} takes audio at {rate_hz} Hz; only {RATE_HZ} Hz is supported")
        self._model: Any = quantized(model.to(device.name).eval(), settings, device)
        self.model_type: str = self._model.config.model_type
        self.supports_batching = self.model_type not in CHANGED_BY_PADDING

    def transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        import torch

        with torch.inference_mode():
            if self.supports_batching:
                return self._transcribe(clips)
            return [recognition for clip in clips for recognition in self._transcribe([clip])]

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        raise NotImplementedError

    def _inputs(self, clips: Sequence[Clip], **options: Any) -> Any:
        """Return the processor's features of the clips, on the device."""
        processor = self._processor
        audio = [clip.samples for clip in clips]
        options = {"sampling_rate": RATE_HZ, "return_tensors": "pt", "padding": True, **options}
        by_name = "audio" in parameters_of(processor.__call__)
        inputs = processor(audio=audio, **options) if by_name else processor(audio, **options)
        return inputs.to(self._device.name, self._device.dtype)

    def _texts(self, rows: Sequence[Any], **options: Any) -> list[str]:
        ids = [row.tolist() for row in rows]
        return [text.strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True, **options)]

    def _words(self, text: str, spans: Sequence[Span]) -> tuple[Word, ...]:
        """Return the words of the text with timestamps; empty if they cannot be determined."""
        step = self._samples_per_step()
        tokens = self._processor.tokenizer.convert_ids_to_tokens([span.token for span in spans])
        return timed_words(text, tokens, spans, step) if step else ()

    def _samples_per_step(self) -> int:
        """Return the samples in one time step of the model; 0: the configuration does not tell."""
        config = self._model.config
        hop = getattr(self._processor.feature_extractor, "hop_length", 0)
        if factor := getattr(getattr(config, "encoder_config", None), "subsampling_factor", 0):
            return int(hop * factor)
        convolves = hasattr(config, "conv_stride") and not getattr(config, "add_adapter", False)
        return int(config.inputs_to_logits_ratio) if convolves else 0


def parameters_of(function: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(function).parameters)
