"""F5-TTS itself: the authors' network and the vocoder Vocos, from files that are here.

See `f5.py` for what of this was run and what was not.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol

import soundfile

from services.tts.engines.f5_plan import RATE_HZ
from services.tts.engines.waveform import Waveform
from shared.audio.voices import ClonedVoice, make_voice
from shared.distribution import not_installed
from shared.engines.devices import Device, open_device
from shared.engines.models import VOCODER, find_model, model_name, needs_of
from shared.engines.registry import UnknownEngine
from shared.settings import Settings

MELS = 100
SPECTROGRAM = {
    "n_fft": 1024,
    "hop_length": 256,
    "win_length": 1024,
    "n_mel_channels": MELS,
    "target_sample_rate": RATE_HZ,
    "mel_spec_type": "vocos",
}
ARCHITECTURE = {"dim": 1024, "depth": 22, "heads": 16, "ff_mult": 2, "text_dim": 512, "conv_layers": 4}
"""F5TTS_v1_Base, where it differs from the package's defaults (`configs/F5TTS_v1_Base.yaml`)."""
OWN_NAME, OWN_FILE = "nature", "infer/examples/basic/basic_ref_en.wav"
OWN_TEXT = "Some call me nature, others call me mother nature."
"""The package's own example, which speaks where no cloned voice is asked for."""


class Unwanted(Exception):
    """The piece is not wanted any more."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference as the model holds it."""

    text: str
    spectrogram: Any
    frames: int


class CloningModel(Protocol):
    """What speaks like a reference. Called from one thread."""

    own: ClonedVoice | None
    """A voice that comes with it."""

    def listen(self, samples: Waveform, text: str) -> Reference:
        """Take in a reference, 24 kHz, and what is said in it."""
        ...

    def __call__(self, heard: Reference, text: str, frames: int, wanted: Callable[[], bool]) -> Waveform:
        """The text alone, 24 kHz, about as many frames long.

        Raises:
            Unwanted: `wanted` said no in the middle of it.
        """
        ...


def load_f5(settings: Settings) -> CloningModel:
    """Load network and vocoder.

    Raises:
        UnknownEngine: they are not here, or what runs them; the message says how to bring it.
    """
    for package in ("torch", "torchaudio", "safetensors", "f5_tts.model", "vocos"):
        try:
            import_module(package)
        except ImportError as error:
            raise UnknownEngine(not_installed("The f5 engine", "f5", error.name or package)) from error
        except OSError as error:  # torchaudio beside another build of torch
            raise UnknownEngine(f"f5 needs a {package} that fits torch: {error}") from error
    return F5Model(settings)


class F5Model:
    """See `CloningModel`."""

    def __init__(self, settings: Settings) -> None:
        import torch
        from f5_tts.model.utils import convert_char_to_pinyin

        self._torch, self._spell = torch, convert_char_to_pinyin
        device = open_device(settings)
        self._device = device.name
        self._solver = {
            "steps": settings.f5_steps,
            "cfg_strength": settings.f5_cfg,
            "sway_sampling_coef": settings.f5_sway,
        }
        self._model = _load_network(settings, device)
        self._vocoder = _load_vocoder(device)
        self._wanted: Callable[[], bool] = lambda: True
        self._model.transformer.register_forward_pre_hook(self._check)  # runs at every step of the solver
        self.own = example_voice()

    def listen(self, samples: Waveform, text: str) -> Reference:
        with self._torch.inference_mode():
            wave = self._torch.from_numpy(samples)[None].to(self._device)
            spectrogram = self._model.mel_spec(wave).permute(0, 2, 1)
        return Reference(text, spectrogram, spectrogram.shape[1])

    def __call__(self, heard: Reference, text: str, frames: int, wanted: Callable[[], bool]) -> Waveform:
        self._wanted = wanted
        try:
            with self._torch.inference_mode():
                whole, _ = self._model.sample(
                    cond=heard.spectrogram,
                    text=self._spell([heard.text + text]),
                    duration=heard.frames + frames,
                    **self._solver,
                )
                spoken = whole[:, heard.frames :].to(self._torch.float32).permute(0, 2, 1)
                wave: Waveform = self._vocoder.decode(spoken).reshape(-1).cpu().numpy()
                return wave
        finally:
            # What it keeps of a text between steps would else be taken for the next text's.
            self._model.transformer.clear_cache()

    def _check(self, *_: Any) -> None:
        if not self._wanted():
            raise Unwanted


def _load_network(settings: Settings, device: Device) -> Any:
    import torch
    from f5_tts.model import CFM, DiT
    from f5_tts.model.utils import get_tokenizer
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    name = model_name("tts", "f5", settings.tts_model, device.kind)
    folder = find_model(name, needs_of("f5"))
    vocabulary_file, weights_file = (folder / need for need in needs_of("f5"))
    vocabulary, size = get_tokenizer(str(vocabulary_file), "custom")
    model = CFM(
        transformer=DiT(**ARCHITECTURE, text_num_embeds=size, mel_dim=MELS),
        mel_spec_kwargs=SPECTROGRAM,
        odeint_kwargs={"method": "euler"},
        vocab_char_map=vocabulary,
    )
    try:
        model.load_state_dict(network_weights(load_file(weights_file)))
    except (RuntimeError, SafetensorError) as error:
        raise UnknownEngine(f"{name} is no F5TTS_v1_Base that can be loaded: {error}") from error
    dtype = device.dtype
    if settings.dtype == "auto":  # the authors' choice: the solver adds up steps that bfloat16 is too coarse for
        dtype = torch.float16 if device.kind == "cuda" else torch.float32
    return model.to(dtype).to(device.name).eval()


def network_weights(saved: dict[str, Any]) -> dict[str, Any]:
    """Of a checkpoint what the network is made of: the averaged weights, without what counted the training's steps."""
    named = {key.removeprefix("ema_model."): value for key, value in saved.items()}
    return {
        key: value for key, value in named.items() if key not in ("initted", "step") and not key.startswith("mel_spec.")
    }


def _load_vocoder(device: Device) -> Any:
    import torch
    from vocos import Vocos

    folder = find_model(VOCODER, needs_of("vocos"))
    settings_file, weights_file = (folder / need for need in needs_of("vocos"))
    vocoder = Vocos.from_hparams(str(settings_file))
    try:
        vocoder.load_state_dict(torch.load(weights_file, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        raise UnknownEngine(f"{VOCODER} cannot be loaded: {error}") from error
    return vocoder.eval().to(device.name)


def example_voice() -> ClonedVoice | None:
    """The voice that comes with the package, where it was installed with its examples."""
    try:
        with files("f5_tts").joinpath(OWN_FILE).open("rb") as file:
            samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, ModuleNotFoundError, soundfile.SoundFileError):
        return None
    return make_voice(OWN_NAME, OWN_TEXT, int(rate_hz), samples.mean(axis=1))
