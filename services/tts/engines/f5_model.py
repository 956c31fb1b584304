"""The network of F5-TTS and the vocoder Vocos, loaded from local files.

See `f5.py` for what was tested.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.resources import files
from typing import Any, Protocol

import soundfile

from services.tts.engines.f5_inputs import RATE_HZ
from services.tts.engines.model import Abandoned
from services.tts.engines.waveform import Waveform
from shared.audio.voices import ClonedVoice, make_voice
from shared.distribution import not_installed
from shared.engines.devices import Device, open_device
from shared.engines.models import VOCODER, find_model, model_name
from shared.engines.registry import UnknownEngine
from shared.engines.repositories import needs_of
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
"""The parameters of F5TTS_v1_Base that differ from the package's defaults (`configs/F5TTS_v1_Base.yaml`)."""
OWN_NAME, OWN_FILE = "nature", "infer/examples/basic/basic_ref_en.wav"
OWN_TEXT = "Some call me nature, others call me mother nature."
"""The package's example recording, which is the default voice."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The recording of a voice as input of the model."""

    text: str
    """Its transcript."""
    spectrogram: Any
    frames: int


class CloningModel(Protocol):
    """A model that speaks in the voice of a reference. Blocking; used by one thread."""

    own: ClonedVoice | None
    """The model's default voice, if it has one."""

    def encode(self, samples: Waveform, text: str) -> Reference:
        """Encode a recording at 24 kHz and its transcript."""
        ...

    def synthesize(self, reference: Reference, text: str, frames: int, wanted: Callable[[], bool]) -> Waveform:
        """Return the text as speech at 24 kHz, without the reference, about `frames` frames long.

        Raises:
            Abandoned: `wanted` returned False meanwhile.
        """
        ...


def load_f5(settings: Settings) -> CloningModel:
    """Load the network and the vocoder.

    Raises:
        UnknownEngine: a model or a library is missing; the message says how to install it.
    """
    for package in ("torch", "torchaudio", "safetensors", "f5_tts.model", "vocos"):
        try:
            import_module(package)
        except ImportError as error:
            raise UnknownEngine(not_installed("The f5 engine", "f5", error.name or package)) from error
        except OSError as error:  # torchaudio for another build of torch
            raise UnknownEngine(f"f5 needs a build of {package} that matches torch: {error}") from error
    return F5Model(settings)


class F5Model:
    """See `CloningModel`."""

    def __init__(self, settings: Settings) -> None:
        import torch
        from f5_tts.model.utils import convert_char_to_pinyin

        self._torch, self._to_pinyin = torch, convert_char_to_pinyin
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

    def encode(self, samples: Waveform, text: str) -> Reference:
        with self._torch.inference_mode():
            wave = self._torch.from_numpy(samples)[None].to(self._device)
            spectrogram = self._model.mel_spec(wave).permute(0, 2, 1)
        return Reference(text, spectrogram, spectrogram.shape[1])

    def synthesize(self, reference: Reference, text: str, frames: int, wanted: Callable[[], bool]) -> Waveform:
        self._wanted = wanted
        try:
            with self._torch.inference_mode():
                whole, _ = self._model.sample(
                    cond=reference.spectrogram,
                    text=self._to_pinyin([reference.text + text]),
                    duration=reference.frames + frames,
                    **self._solver,
                )
                spoken = whole[:, reference.frames :].to(self._torch.float32).permute(0, 2, 1)
                wave: Waveform = self._vocoder.decode(spoken).reshape(-1).cpu().numpy()
                return wave
        finally:
            # The transformer caches the embedded text between steps, and would use it for the next text.
            self._model.transformer.clear_cache()

    def _check(self, *_: Any) -> None:
        if not self._wanted():
            raise Abandoned


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
        raise UnknownEngine(f"{name} is not an F5TTS_v1_Base model that can be loaded: {error}") from error
    dtype = device.dtype
    if settings.dtype == "auto":  # as the authors do: bfloat16 is too coarse for the solver, which adds up small steps
        dtype = torch.float16 if device.kind == "cuda" else torch.float32
    return model.to(dtype).to(device.name).eval()


def network_weights(saved: dict[str, Any]) -> dict[str, Any]:
    """Return the network's weights in a checkpoint: the averaged ones (EMA), without the counters of the training."""
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
    """Return the package's example voice; None if the package was installed without its examples."""
    try:
        with files("f5_tts").joinpath(OWN_FILE).open("rb") as file:
            samples, rate_hz = soundfile.read(file, dtype="float32", always_2d=True)
    except (OSError, ModuleNotFoundError, soundfile.SoundFileError):
        return None
    return make_voice(OWN_NAME, OWN_TEXT, int(rate_hz), samples.mean(axis=1))
