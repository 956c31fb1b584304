"""The model architectures of transformers, other than Whisper and Voxtral Realtime. Blocking, for one thread."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.asr.engines.model import Clip, Recognition, in_groups
from services.asr.engines.pretrained import Pretrained, parameters_of
from services.asr.engines.word_timestamps import ctc_spans, transducer_spans
from shared.engines.devices import Device
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

PROMPT_IS_CONTEXT = frozenset({"qwen3_asr", "vibevoice_asr"})
"""Model types that take a prompt as context, such as hints. The others take it as an instruction."""

STRIPS_PREFIX = frozenset({"audioflamingo3"})
"""Model types that put the transcript into a sentence, which the processor strips. For the others the same processor
option would remove spoken words."""


class Ctc(Pretrained):
    """One label for each time step: Parakeet CTC, wav2vec 2 and its successors."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        # A model that was trained without attention masks takes padding for audio.
        self.supports_batching = getattr(self._processor.feature_extractor, "return_attention_mask", True)

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        inputs = self._inputs(clips)
        if hasattr(self._model, "_get_feat_extract_output_lengths"):
            rows = self._model(**inputs).logits.argmax(-1)
            if "attention_mask" in inputs:
                counts = self._model._get_feat_extract_output_lengths(  # noqa: SLF001 - there is no public name
                    inputs["attention_mask"].sum(-1)
                )
                rows = [row[:count] for row, count in zip(rows, counts.tolist(), strict=True)]
        else:
            rows = self._model.generate(**inputs)
        blank = self._model.config.pad_token_id
        return [
            Recognition(text, words=self._words(text, ctc_spans(row.tolist(), blank)))
            for text, row in zip(self._texts(rows), rows, strict=True)
        ]


class Transducer(Pretrained):
    """Parakeet TDT and RNN-T, Nemotron."""

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        limits = [
            2 * clip.max_tokens for clip in clips
        ]  # `generate` counts blanks as tokens: at most one for each frame
        output = self._model.generate(**self._inputs(clips), max_new_tokens=max(limits))
        rows = [row[: 1 + limit] for row, limit in zip(output.sequences, limits, strict=True)]
        skipped = frozenset({self._model.config.blank_token_id, *self._processor.tokenizer.all_special_ids})
        texts = self._texts(rows)
        if output.durations is None:
            return [Recognition(text) for text in texts]
        return [
            Recognition(
                text, words=self._words(text, transducer_spans(row.tolist(), durations[: len(row)].tolist(), skipped))
            )
            for text, row, durations in zip(texts, rows, output.durations, strict=True)
        ]


class Generative(Pretrained):
    """An autoregressive decoder: Moonshine, and audio chat models with a transcription request, such as Voxtral."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        processor = self._processor
        self._request = getattr(processor, "apply_transcription_request", None)
        self._parameters = parameters_of(self._request or processor.__call__)
        codes = getattr(sys.modules[type(processor).__module__], "LANGUAGE_CODE_TO_NAME", {})
        self.languages = frozenset(codes)
        self.detects = self._request is not None and "source_language" not in self._parameters
        # Some models write more than the transcript: the language, or a sentence around it.
        self._decode_options: dict[str, Any] = {}
        if "return_format" in parameters_of(processor.decode):
            self._decode_options = {"return_format": "transcription_only"}
        elif self.model_type in STRIPS_PREFIX:
            self._decode_options = {"strip_prefix": True}

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        takes_hints = "keywords" in self._parameters or self.model_type in PROMPT_IS_CONTEXT
        # A request has one language and one set of hints.
        keys = ((clip.language, clip.hints if takes_hints else "") for clip in clips)
        return in_groups(keys, lambda indices: self._transcribe_group([clips[index] for index in indices]))

    def _transcribe_group(self, clips: Sequence[Clip]) -> list[Recognition]:
        """Transcribe clips with the same language and hints."""
        inputs = self._request_inputs(clips)
        most = max(clip.max_tokens for clip in clips)
        rows = self._model.generate(**inputs, max_new_tokens=most, do_sample=False, num_beams=1)
        prompt = inputs.get("decoder_input_ids" if self._model.config.is_encoder_decoder else "input_ids")
        begin = 1 if prompt is None else prompt.shape[1]
        rows = [row[begin : begin + clip.max_tokens] for row, clip in zip(rows, clips, strict=True)]
        if not self._decode_options:
            return [Recognition(text, clips[0].language) for text in self._texts(rows)]
        ids = [row.tolist() for row in rows]
        texts = self._processor.decode(ids, skip_special_tokens=True, **self._decode_options)
        return [Recognition(text.strip(), clips[0].language) for text in texts]

    def _request_inputs(self, clips: Sequence[Clip]) -> Any:
        """Return the model's input: the audio and, for chat models, the transcription request."""
        language, hints = clips[0].language, clips[0].hints
        options: dict[str, Any] = {}
        if language:
            options |= {"language": language, "source_language": language}
        if hints and "keywords" in self._parameters:
            options["keywords"] = [hint.strip() for hint in hints.split(",") if hint.strip()]
        elif hints and self.model_type in PROMPT_IS_CONTEXT:
            options["prompt"] = hints
        if self._request is None:
            return self._inputs(clips, **self._accepted(options))
        options |= {"model_id": self._folder, "sampling_rate": RATE_HZ, "format": ["wav"] * len(clips)}
        inputs = self._request(audio=[clip.samples for clip in clips], **self._accepted(options))
        return inputs.to(self._device.name, self._device.dtype)

    def _accepted(self, options: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in options.items() if name in self._parameters}
