"""The families of recognisers that transformers has, each with its way from audio to text. Blocking; for one thread.

Loaded from a folder, told apart by the model's own configuration: what the installed transformers knows, this runs.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.asr.engines.clips import Clip, Model, Recognition, in_groups
from services.asr.engines.pretrained import Pretrained, takes
from services.asr.engines.voxtral_realtime import Realtime
from services.asr.engines.whisper import Whisper
from services.asr.engines.word_times import collapsed, emitted
from shared.distribution import not_installed
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine
from shared.protocol.session import RATE_HZ
from shared.settings import Settings

CONTEXT = frozenset({"qwen3_asr", "vibevoice_asr"})
"""Kinds to which a prompt is what may be heard; to the others it is what they are to do."""

FRAMED = frozenset({"audioflamingo3"})
"""Kinds that answer with a sentence about what was said; with the others, what is taken for its frame is speech."""

MISTRAL = frozenset({"voxtral", "voxtral_realtime"})
"""Kinds whose tokenizer is a package of its own, without which they fail in ways that do not say so."""

_BROKEN = (ValueError, OSError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)
"""What a folder that is not as it should be raises, deep in the library."""


def load_model(folder: Path, device: Device, settings: Settings) -> Model:
    """The model in a folder, on the device.

    Raises:
        UnknownEngine: it is no recogniser, or cannot be loaded; the message says what it is.
    """
    try:
        from safetensors import SafetensorError
        from transformers import AutoConfig
        from transformers.models.auto import modeling_auto as auto
        from transformers.utils.import_utils import MISTRAL_COMMON_MIN_VERSION, is_mistral_common_available
    except ImportError as error:
        raise UnknownEngine(not_installed("The transformers engine", "neural", error.name)) from error
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except _BROKEN as error:
        raise UnknownEngine(f"{folder}: this transformers does not know the model: {_first_line(error)}") from error
    kind = config.model_type
    tables: tuple[tuple[str, type[Pretrained]], ...] = (
        ("MODEL_FOR_CTC_MAPPING_NAMES", Ctc),
        ("MODEL_FOR_TDT_MAPPING_NAMES", Transducer),
        ("MODEL_FOR_RNNT_MAPPING_NAMES", Transducer),
        ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", Generating),
        ("MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", Generating),
    )
    found = [(getattr(auto, table)[kind], family) for table, family in tables if kind in getattr(auto, table, {})]
    if not found:
        raise UnknownEngine(f"{folder} is a model of the kind {kind!r}, which turns no speech into text")
    architecture, family = found[0]
    if kind == "whisper":
        family = Whisper
    if kind == "voxtral_realtime":
        family = Realtime
    if kind in MISTRAL and not is_mistral_common_available():
        raise UnknownEngine(
            not_installed(
                f"{folder}: the tokenizer library of a {kind}",
                "voxtral",
                f"mistral-common {MISTRAL_COMMON_MIN_VERSION} or later",
            )
        )
    try:
        return family(folder, architecture, device, settings)
    except UnknownEngine:
        raise
    except (*_BROKEN, SafetensorError) as error:
        raise UnknownEngine(f"{folder}: the {kind} cannot be loaded: {_first_line(error)}") from error


class Ctc(Pretrained):
    """One label a step: Parakeet CTC, wav2vec 2 and its kin."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        # Those that were trained without masks take padding for sound.
        self.alone = not getattr(self._processor.feature_extractor, "return_attention_mask", True)

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
            Recognition(text, words=self._words(text, collapsed(row.tolist(), blank)))
            for text, row in zip(self._texts(rows), rows, strict=True)
        ]


class Transducer(Pretrained):
    """Parakeet TDT and RNN-T, Nemotron's."""

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        # Blanks count as tokens here: one for each frame at most.
        most = [2 * clip.most_tokens for clip in clips]
        made = self._model.generate(**self._inputs(clips), max_new_tokens=max(most))
        rows = [row[: 1 + count] for row, count in zip(made.sequences, most, strict=True)]
        skipped = frozenset({self._model.config.blank_token_id, *self._processor.tokenizer.all_special_ids})
        texts = self._texts(rows)
        if made.durations is None:
            return [Recognition(text) for text in texts]
        return [
            Recognition(text, words=self._words(text, emitted(row.tolist(), steps[: len(row)].tolist(), skipped)))
            for text, row, steps in zip(texts, rows, made.durations, strict=True)
        ]


class Generating(Pretrained):
    """A decoder that writes: Moonshine, Voxtral and other chat models with ears that take a request for a transcript."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        processor = self._processor
        self._request = getattr(processor, "apply_transcription_request", None)
        self._takes = takes(self._request or processor.__call__)
        named = getattr(sys.modules[type(processor).__module__], "LANGUAGE_CODE_TO_NAME", {})
        self.languages = frozenset(named)
        self.detects = self._request is not None and "source_language" not in self._takes
        # Some write more than what was said: the language, or that this is what was said.
        self._reads: dict[str, Any] = {}
        if "return_format" in takes(processor.decode):
            self._reads = {"return_format": "transcription_only"}
        elif self.kind in FRAMED:
            self._reads = {"strip_prefix": True}

    def _transcribe(self, clips: Sequence[Clip]) -> list[Recognition]:
        hints = "keywords" in self._takes or self.kind in CONTEXT
        keys = ((clip.language, clip.hints if hints else "") for clip in clips)  # one of each in a request
        return in_groups(keys, lambda places: self._ask([clips[place] for place in places]))

    def _ask(self, clips: Sequence[Clip]) -> list[Recognition]:
        inputs = self._asked(clips)
        most = max(clip.most_tokens for clip in clips)
        rows = self._model.generate(**inputs, max_new_tokens=most, do_sample=False, num_beams=1)
        given = inputs.get("decoder_input_ids" if self._model.config.is_encoder_decoder else "input_ids")
        begun = 1 if given is None else given.shape[1]
        rows = [row[begun : begun + clip.most_tokens] for row, clip in zip(rows, clips, strict=True)]
        if not self._reads:
            return [Recognition(text, clips[0].language) for text in self._texts(rows)]
        texts = self._processor.decode([row.tolist() for row in rows], skip_special_tokens=True, **self._reads)
        return [Recognition(text.strip(), clips[0].language) for text in texts]

    def _asked(self, clips: Sequence[Clip]) -> Any:
        """What goes into the model: the audio and, with those that chat, the request."""
        language, hints = clips[0].language, clips[0].hints
        options: dict[str, Any] = {}
        if language:
            options |= {"language": language, "source_language": language}
        if hints and "keywords" in self._takes:
            options["keywords"] = [hint.strip() for hint in hints.split(",") if hint.strip()]
        elif hints and self.kind in CONTEXT:
            options["prompt"] = hints
        if self._request is None:
            return self._inputs(clips, **{name: value for name, value in options.items() if name in self._takes})
        options |= {"model_id": self._folder, "sampling_rate": RATE_HZ, "format": ["wav"] * len(clips)}
        options = {name: value for name, value in options.items() if name in self._takes}
        inputs = self._request(audio=[clip.samples for clip in clips], **options)
        return inputs.to(self._device.name, self._device.dtype)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
