"""The families of recognisers that transformers has, each with its way from audio to text. Blocking; for one thread.

Loaded from a folder, told apart by the model's own configuration: what the installed transformers knows, this runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from services.asr.guards import Samples
from shared.devices import Device, quantized
from shared.engines import UnknownEngine
from shared.session import RATE_HZ
from shared.settings import Settings

TOKENS_PER_S, TOKENS_LEAST = 30, 12
"""No more are decoded than anybody says: the densest scripts take three tokens for a letter."""


ALONE = frozenset({"moonshine", "moonshine_streaming"})
"""Kinds that hear something else when padded: Moonshine normalises over all of the time, its streaming kind looks ahead."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Audio to be transcribed."""

    samples: Samples
    """16 kHz, mono, -1..1."""
    language: str
    """ISO 639-1; empty: the model finds out, if it can."""
    hints: str = ""
    """Words and names that are likely."""

    @property
    def seconds(self) -> float:
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model made of a clip."""

    text: str
    language: str = ""
    no_speech: float | None = None
    """Probability that nobody spoke, of the models that tell."""
    confidence: float | None = None
    """Mean log-probability of the tokens."""


class Model(Protocol):
    """A loaded recogniser."""

    languages: frozenset[str]
    """ISO 639-1; empty: whatever it was trained on, it does not say."""
    detects: bool
    """Whether it finds out the language itself."""

    def transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        """One answer for each clip, the same as if it were alone."""
        ...


def load_model(folder: Path, device: Device, settings: Settings) -> Model:
    """The model in a folder, on the device.

    Raises:
        UnknownEngine: it is no recogniser, or cannot be loaded; the message says what it is.
    """
    try:
        from transformers import AutoConfig
        from transformers.models.auto import modeling_auto as auto
    except ImportError as error:
        raise UnknownEngine(f"the engine transformers needs {error.name}: pip install 'parley[neural]'") from error
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
    except (ValueError, OSError, KeyError) as error:
        raise UnknownEngine(f"{folder}: this transformers does not know the model: {_first_line(error)}") from error
    kind = config.model_type
    tables: tuple[tuple[str, type[_Model]], ...] = (
        ("MODEL_FOR_CTC_MAPPING_NAMES", _Ctc),
        ("MODEL_FOR_TDT_MAPPING_NAMES", _Transducer),
        ("MODEL_FOR_RNNT_MAPPING_NAMES", _Transducer),
        ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", _Generating),
        ("MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", _Generating),
    )
    found = [(getattr(auto, table)[kind], family) for table, family in tables if kind in getattr(auto, table, {})]
    if not found:
        raise UnknownEngine(f"{folder} is a model of the kind {kind!r}, which turns no speech into text")
    architecture, family = found[0]
    if kind == "whisper":
        family = _Whisper
    try:
        return family(folder, architecture, device, settings)
    except (ValueError, OSError, KeyError, RuntimeError, ImportError) as error:
        raise UnknownEngine(f"{folder}: the {kind} cannot be loaded: {_first_line(error)}") from error


class _Model:
    """What all families share: the model, its processor, and what goes in."""

    languages: frozenset[str] = frozenset()
    detects = False

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        import transformers

        library: Any = transformers
        library.logging.set_verbosity_error()  # it warns of what is meant so, once for every call
        library.logging.disable_progress_bar()
        self._device = device
        self._processor = library.AutoProcessor.from_pretrained(folder, local_files_only=True)
        loaded = getattr(library, architecture).from_pretrained(folder, dtype=device.dtype, local_files_only=True)
        self._model: Any = quantized(loaded.to(device.name).eval(), settings, device)
        self._compile = settings.compile

    def transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        import torch

        with torch.inference_mode():
            return self._transcribe(clips)

    def _transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        raise NotImplementedError

    def _inputs(self, clips: Sequence[Clip], **options: Any) -> Any:
        """What the processor makes of the audio, on the device."""
        audio = [clip.samples for clip in clips]
        made = self._processor(audio, sampling_rate=RATE_HZ, return_tensors="pt", padding=True, **options)
        return made.to(self._device.name, self._device.dtype)

    def _texts(self, ids: Any) -> list[str]:
        rows = [row.tolist() for row in ids]
        return [text.strip() for text in self._processor.batch_decode(rows, skip_special_tokens=True)]

    def _alone(self) -> bool:
        """Whether a clip must be alone, because padding is not hidden from the model."""
        extractor = getattr(self._processor, "feature_extractor", self._processor)
        return self._model.config.model_type in ALONE or not getattr(extractor, "return_attention_mask", True)


class _Ctc(_Model):
    """One label a step: Parakeet CTC, wav2vec 2 and its kin."""

    def _transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        if len(clips) > 1 and self._alone():
            return [heard for clip in clips for heard in self._transcribe([clip])]
        inputs = self._inputs(clips)
        if hasattr(type(self._model), "_get_feat_extract_output_lengths"):
            logits = self._model(**inputs).logits
            lengths = inputs["attention_mask"].sum(-1) if "attention_mask" in inputs else None
            ids = logits.argmax(-1)
            if lengths is not None:
                steps = self._model._get_feat_extract_output_lengths(lengths)  # noqa: SLF001 - no public name
                ids = [row[:count] for row, count in zip(ids, steps.tolist(), strict=True)]
        else:
            ids = self._model.generate(**inputs)
        return [Heard(text) for text in self._texts(ids)]


class _Transducer(_Model):
    """Parakeet TDT and RNN-T, Nemotron's."""

    def _transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        # Blanks count as tokens here: one for each frame at most.
        generated = self._model.generate(**self._inputs(clips), max_new_tokens=2 * _most_tokens(clips))
        return [Heard(text) for text in self._texts(getattr(generated, "sequences", generated))]


class _Generating(_Model):
    """A decoder that writes: Moonshine, Voxtral and other chat models with ears that take a request for a transcript."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        self._folder = str(folder)
        self._asks = hasattr(self._processor, "apply_transcription_request")

    def _transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        if not self._asks:
            if len(clips) > 1 and self._alone():
                return [heard for clip in clips for heard in self._transcribe([clip])]
            inputs = self._inputs(clips)
            ids = self._model.generate(**inputs, max_new_tokens=_most_tokens(clips))
            start = inputs["input_ids"].shape[1] if "input_ids" in inputs else 1
            return [Heard(text) for text in self._texts(_own(ids[:, start:], clips))]
        found: list[Heard] = []
        for language, group in groupby(clips, key=lambda clip: clip.language):  # one language in a request
            found += self._ask(list(group), language)
        return found

    def _ask(self, clips: Sequence[Clip], language: str) -> list[Heard]:
        import inspect

        request = self._processor.apply_transcription_request
        takes = inspect.signature(request).parameters
        options: dict[str, Any] = {"language": language or None, "sampling_rate": RATE_HZ, "model_id": self._folder}
        options = {name: value for name, value in options.items() if name in takes}
        if "format" in takes:
            options["format"] = ["wav"] * len(clips)
        inputs = request(audio=[clip.samples for clip in clips], **options).to(self._device.name, self._device.dtype)
        ids = self._model.generate(**inputs, max_new_tokens=_most_tokens(clips), do_sample=False)
        own = _own(ids[:, inputs["input_ids"].shape[1] :], clips)
        return [Heard(text, language) for text in self._texts(own)]


class _Whisper(_Model):
    """Whisper and Distil-Whisper: the only ones that also tell whether anybody spoke, and in what language."""

    def __init__(self, folder: Path, architecture: str, device: Device, settings: Settings) -> None:
        super().__init__(folder, architecture, device, settings)
        config = self._config = self._model.generation_config
        self._multilingual = bool(getattr(config, "is_multilingual", False))
        tokens = getattr(config, "lang_to_id", None) or {}
        self._language_of = {place: token.strip("<|>") for token, place in tokens.items()}
        self.languages = frozenset(self._language_of.values()) if self._multilingual else frozenset({"en"})
        self.detects = self._multilingual
        config.max_length = None
        self._most = config.max_new_tokens or self._model.config.max_target_positions // 2
        if device.kind != "cpu":
            config.cache_implementation = "static"
        if self._compile:
            import torch

            self._model.forward = torch.compile(self._model.forward, mode="reduce-overhead", fullgraph=True)

    def _transcribe(self, clips: Sequence[Clip]) -> list[Heard]:
        found: list[Heard] = []
        for hints, group in groupby(clips, key=lambda clip: clip.hints):  # one prompt in a call
            found += self._decode(list(group), hints)
        return found

    def _decode(self, clips: Sequence[Clip], hints: str) -> list[Heard]:
        features = self._processor(
            [clip.samples for clip in clips], sampling_rate=RATE_HZ, return_tensors="pt"
        ).input_features.to(self._device.name, self._device.dtype)
        encoded = self._model.get_encoder()(features)
        no_speech, detected = self._first_step(encoded, len(clips))
        languages = [clip.language or found for clip, found in zip(clips, detected, strict=True)]
        options: dict[str, Any] = {"language": languages, "task": "transcribe"} if self._multilingual else {}
        if hints:
            options["prompt_ids"] = self._processor.get_prompt_ids(hints, return_tensors="pt").to(self._device.name)
        sure = _confidence(self._config.eos_token_id)
        ids = self._model.generate(
            encoder_outputs=encoded,
            max_new_tokens=min(self._most, _most_tokens(clips)),
            return_timestamps=False,
            logits_processor=[sure],
            **options,
        )
        rows = zip(self._texts(_own(ids, clips)), languages, no_speech, sure.means(ids), strict=True)
        return [Heard(text, language, silence, mean) for text, language, silence, mean in rows]

    def _first_step(self, encoded: Any, count: int) -> tuple[list[float], list[str]]:
        """What the model says before its first word: the probability of no speech, and the likeliest language."""
        import torch

        start = torch.full((count, 1), self._config.decoder_start_token_id, device=self._device.name)
        logits = self._model(encoder_outputs=encoded, decoder_input_ids=start).logits[:, 0].float()
        silence = logits.softmax(-1)[:, self._config.no_timestamps_token_id - 1].tolist()
        if not self._multilingual:
            return silence, ["en"] * count
        places = sorted(self._language_of)
        best = logits[:, places].argmax(-1).tolist()
        return silence, [self._language_of[places[place]] for place in best]


def _confidence(end: int | list[int]) -> Any:
    """A logits processor that changes nothing and adds up how sure the model was of each token it chose."""
    import torch
    from transformers import LogitsProcessor

    ends = {end} if isinstance(end, int) else set(end)

    class Confidence(LogitsProcessor):
        """Greedy decoding takes the likeliest: its log-probability is the largest score less the sum of all."""

        def __init__(self) -> None:
            self._steps: list[Any] = []

        def __call__(self, input_ids: Any, scores: Any) -> Any:
            self._steps.append(scores.amax(-1).float() - scores.float().logsumexp(-1))
            return scores

        def means(self, ids: Any) -> list[float]:
            """Mean over the tokens of each sequence up to its end."""
            if not self._steps:
                return [0.0] * len(ids)
            steps = torch.stack(self._steps, 1)
            tokens = ids[:, -steps.shape[1] :].tolist()
            counts = [next((at + 1 for at, token in enumerate(row) if token in ends), len(row)) for row in tokens]
            return [float(row[:count].mean()) for row, count in zip(steps, counts, strict=True)]

    return Confidence()


def _most_tokens(clips: Sequence[Clip]) -> int:
    return max(round(TOKENS_LEAST + TOKENS_PER_S * clip.seconds) for clip in clips)


def _own(ids: Any, clips: Sequence[Clip]) -> list[Any]:
    """Of each row of a batch no more than the clip would have had alone."""
    return [row[: _most_tokens([clip])] for row, clip in zip(ids, clips, strict=True)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def silent_clip(seconds: float, language: str) -> Clip:
    """Something to warm up with."""
    return Clip(np.zeros(round(seconds * RATE_HZ), np.float32), language)
