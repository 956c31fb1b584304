"""What all families of recognisers share: the model of a folder, its processor, and what goes in. Blocking; for one thread."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from services.asr.engines.clips import Clip, Recognition
from services.asr.engines.word_times import Span, words_of
from shared.engines.devices import Device, quantized
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ, Word
from shared.settings import Settings

ALONE = frozenset({"moonshine", "moonshine_streaming", "voxtral_realtime"})
"""Kinds that hear something else when padded: Moonshine normalises over all of the time, its streaming kind looks ahead, and
Voxtral's realtime kind writes on as long as there is padding."""


class Pretrained:
    """See `clips.Model`."""

    languages: frozenset[str] = frozenset()
    detects = False

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        """Raises `UnknownEngine` if the folder has no audio in its processor, or not all of its weights."""
        import transformers

        library: Any = transformers
        library.logging.set_verbosity_error()  # it warns of what is meant so, once for every call
        library.logging.disable_progress_bar()
        self._device, self._folder = device, str(folder)
        self._processor = library.AutoProcessor.from_pretrained(folder, local_files_only=True)
        # Where a file is missing it makes what there is: a tokenizer alone, which would fail at the first word.
        if not hasattr(self._processor, "feature_extractor"):
            raise UnknownEngine(
                f"{folder}: nothing there turns audio into features (processor_config.json or preprocessor_config.json)"
            )
        model, info = getattr(library, architecture).from_pretrained(
            folder, dtype=device.dtype, local_files_only=True, output_loading_info=True
        )
        if missing := sorted(info["missing_keys"]):  # it fills them with noise
            raise UnknownEngine(f"{folder}: {len(missing)} weights are missing, such as {missing[0]}")
        rate_hz = getattr(self._processor.feature_extractor, "sampling_rate", RATE_HZ)
        if rate_hz != RATE_HZ:
            raise UnknownEngine(f"{folder} hears audio of {rate_hz} Hz, and there is only audio of {RATE_HZ} Hz")
        self._model: Any = quantized(model.to(device.name).eval(), settings, device)
        self.kind: str = self._model.config.model_type
        self.alone = self.kind in ALONE

    def transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        import torch

        with torch.inference_mode():
            if self.alone:
                return [heard for clip in clips for heard in self._transcribe([clip])]
            return self._transcribe(clips)

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        raise NotImplementedError

    def _inputs(self, clips: Sequence[Clip], **options: Any) -> Any:
        """What the processor makes of the audio, on the device."""
        call = self._processor
        audio = [clip.samples for clip in clips]
        options = {"sampling_rate": RATE_HZ, "return_tensors": "pt", "padding": True, **options}
        made = call(audio=audio, **options) if "audio" in takes(call.__call__) else call(audio, **options)
        return made.to(self._device.name, self._device.dtype)

    def _texts(self, rows: Sequence[Any], **options: Any) -> list[str]:
        ids = [row.tolist() for row in rows]
        return [text.strip() for text in self._processor.batch_decode(ids, skip_special_tokens=True, **options)]

    def _words(self, text: str, spans: Sequence[Span]) -> tuple[Word, ...]:
        """When the words of the text were said, from the steps of its tokens; none where that cannot be told."""
        step = self._samples_per_step()
        tokens = self._processor.tokenizer.convert_ids_to_tokens([span.token for span in spans])
        return words_of(text, tokens, spans, step) if step else ()

    def _samples_per_step(self) -> int:
        config = self._model.config
        hop = getattr(self._processor.feature_extractor, "hop_length", 0)
        if factor := getattr(getattr(config, "encoder_config", None), "subsampling_factor", 0):
            return int(hop * factor)
        convolves = hasattr(config, "conv_stride") and not getattr(config, "add_adapter", False)
        return int(config.inputs_to_logits_ratio) if convolves else 0


def takes(function: Callable[..., Any]) -> frozenset[str]:
    """The names of what a function takes."""
    return frozenset(inspect.signature(function).parameters)
