"""The families of speaking models that transformers has, told apart by the model's own configuration. Blocking; for one thread.

What was run: tiny models of these architectures with random weights. How the published ones sound, and how fast they are,
is not known here.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from services.tts.engines.codecs import Bark, Csm
from services.tts.engines.family import Family, first_line
from services.tts.engines.spectrograms import FastSpeech2, SpeechT5
from services.tts.engines.vits import Vits
from services.tts.engines.waveform import Waveform
from shared.distribution import not_installed
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

_FAMILIES: Mapping[str, tuple[str, type[Family]]] = {
    "bark": ("BarkModel", Bark),
    "csm": ("CsmForConditionalGeneration", Csm),
    "fastspeech2_conformer_with_hifigan": ("FastSpeech2ConformerWithHifiGan", FastSpeech2),
    "speecht5": ("SpeechT5ForTextToSpeech", SpeechT5),
    "vits": ("VitsModel", Vits),
}
"""By the model's kind, its architecture and family."""

_PACKAGES = {"SpeechT5Tokenizer": "sentencepiece", "FastSpeech2ConformerTokenizer": "g2p-en"}
"""What the tokenizers need that transformers does not bring."""


class Model(Protocol):
    """A loaded speaking model."""

    rate_hz: int
    voices: tuple[str, ...]
    """The first is the default."""
    languages: frozenset[str]
    """In two letters, where a language has two (else ISO 639-3); empty: it does not say."""
    batches: bool
    """Whether sentences are the same together as alone, so that they may share a call."""
    longest: int
    """Characters in a call."""

    def prepare(self, text: str) -> str:
        """The text in letters that the model knows. From any thread; it may take milliseconds."""
        ...

    def speak(self, texts: Sequence[str], voice: str, speed: float, wanted: Callable[[], bool]) -> list[Waveform]:
        """One waveform for each text. Raises `Abandoned` soon after `wanted` is no longer true."""
        ...


def load_model(folder: Path, device: Device, settings: Settings) -> Model:
    """The model in a folder, on the device.

    Raises:
        UnknownEngine: it does not speak, or cannot be loaded; the message says what it is, or what is missing.
    """
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise UnknownEngine(not_installed("The transformers engine", "neural", error.name)) from error
    try:
        kind = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except (ValueError, OSError, LookupError) as error:
        raise UnknownEngine(f"{folder}: this transformers does not know the model: {first_line(error)}") from error
    if kind not in _FAMILIES:
        known = ", ".join(sorted(_FAMILIES))
        raise UnknownEngine(f"{folder} is a model of the kind {kind!r}, which does not speak here; these do: {known}")
    architecture, family = _FAMILIES[kind]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the libraries' own deprecations
            return family(folder, architecture, device, settings)
    except UnknownEngine:
        raise
    except Exception as error:  # what damaged files make the libraries raise, is not written anywhere
        what = first_line(error)
        for tokenizer, package in _PACKAGES.items():
            if tokenizer in what:
                what = not_installed("its tokenizer", "speech", package)
        raise UnknownEngine(f"{folder}: the {kind} cannot be loaded: {what}") from error
