"""Load a transformers model that speaks from a folder. Its configuration selects the class.

Tested with tiny models of these architectures and random weights. The sound and the speed of the published models are
untested.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path

from services.tts.engines.codec_models import Bark, Csm
from services.tts.engines.model import Model
from services.tts.engines.spectrogram_models import FastSpeech2, SpeechT5
from services.tts.engines.vits import Vits
from shared.distribution import not_installed
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine, first_line
from shared.settings import Settings

_MODELS: Mapping[str, tuple[str, type[Model]]] = {
    "bark": ("BarkModel", Bark),
    "csm": ("CsmForConditionalGeneration", Csm),
    "fastspeech2_conformer_with_hifigan": ("FastSpeech2ConformerWithHifiGan", FastSpeech2),
    "speecht5": ("SpeechT5ForTextToSpeech", SpeechT5),
    "vits": ("VitsModel", Vits),
}
"""By model type: the class of transformers, and the class that runs it."""

_PACKAGES = {"SpeechT5Tokenizer": "sentencepiece", "FastSpeech2ConformerTokenizer": "g2p-en"}
"""Additional packages of some tokenizers."""


def load_model(folder: Path, device: Device, settings: Settings) -> Model:
    """Load the model in a folder onto the device.

    Raises:
        UnknownEngine: the model cannot speak, or it cannot be loaded; the message says why.
    """
    try:
        from transformers import AutoConfig
    except ImportError as error:
        raise UnknownEngine(not_installed("The transformers engine", "neural", error.name)) from error
    try:
        model_type = AutoConfig.from_pretrained(folder, local_files_only=True).model_type
    except (ValueError, OSError, LookupError) as error:
        raise UnknownEngine(
            f"{folder}: the installed transformers cannot read this model's configuration: {first_line(error)}"
        ) from error
    if model_type not in _MODELS:
        supported = ", ".join(sorted(_MODELS))
        raise UnknownEngine(f"{folder}: a model of the type {model_type!r} cannot speak here; supported: {supported}")
    architecture, model = _MODELS[model_type]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside the libraries
            return model(folder, architecture, device, settings)
    except UnknownEngine:
        raise
    except Exception as error:  # the libraries do not document what they raise for damaged files
        reason = first_line(error)
        for tokenizer, package in _PACKAGES.items():
            if tokenizer in reason:
                reason = not_installed("its tokenizer", "speech", package)
        raise UnknownEngine(f"{folder}: the {model_type} model cannot be loaded: {reason}") from error
