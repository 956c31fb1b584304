"""Loads a model from a folder. Its configuration decides the class; transformers must know the architecture."""

from pathlib import Path

from services.asr.engines.architectures import Ctc, Generative, Transducer
from services.asr.engines.model import Model
from services.asr.engines.pretrained import Pretrained
from services.asr.engines.voxtral_realtime import VoxtralRealtime
from services.asr.engines.whisper import Whisper
from shared.distribution import not_installed
from shared.engines.devices import Device
from shared.engines.registry import UnknownEngine, first_line
from shared.settings import Settings

MISTRAL = frozenset({"voxtral", "voxtral_realtime"})
"""Model types that need the package mistral-common. Without it they fail with errors that do not name it."""

_LOADING_ERRORS = (ValueError, OSError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)
"""What the library raises for a damaged or incomplete folder."""


def load_model(folder: Path, device: Device, settings: Settings) -> Model:
    """Load the model in a folder onto the device.

    Raises:
        UnknownEngine: it is not a speech recognition model, or it cannot be loaded; the message says why.
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
    except _LOADING_ERRORS as error:
        raise UnknownEngine(
            f"{folder}: the installed transformers cannot read this model's configuration: {first_line(error)}"
        ) from error
    model_type = config.model_type
    tables: tuple[tuple[str, type[Pretrained]], ...] = (
        ("MODEL_FOR_CTC_MAPPING_NAMES", Ctc),
        ("MODEL_FOR_TDT_MAPPING_NAMES", Transducer),
        ("MODEL_FOR_RNNT_MAPPING_NAMES", Transducer),
        ("MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES", Generative),
        ("MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", Generative),
    )
    found = [
        (getattr(auto, table)[model_type], family) for table, family in tables if model_type in getattr(auto, table, {})
    ]
    if not found:
        raise UnknownEngine(f"{folder}: a model of the type {model_type!r} cannot transcribe speech")
    architecture, family = found[0]
    if model_type == "whisper":
        family = Whisper
    if model_type == "voxtral_realtime":
        family = VoxtralRealtime
    if model_type in MISTRAL and not is_mistral_common_available():
        raise UnknownEngine(
            not_installed(
                f"{folder}: the tokenizer library of a {model_type}",
                "voxtral",
                f"mistral-common {MISTRAL_COMMON_MIN_VERSION} or later",
            )
        )
    try:
        return family(folder, architecture, device, settings)
    except UnknownEngine:
        raise
    except (*_LOADING_ERRORS, SafetensorError) as error:
        raise UnknownEngine(f"{folder}: the {model_type} model cannot be loaded: {first_line(error)}") from error
