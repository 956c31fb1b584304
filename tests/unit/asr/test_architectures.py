"""Every architecture loads from its folder and gives the same result in a batch as alone; other folders are refused."""

import json
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from transformers.utils import import_utils

from services.asr.engines.loading import load_model
from services.asr.engines.model import Clip, Model
from shared.engines.devices import open_device
from shared.engines.registry import UnknownEngine
from shared.settings import Settings
from tests.support import random_models
from tests.support.sounds import clip, texts, voice

SETTINGS = Settings(device="cpu")
LENGTHS = (1.1, 2.5, 0.4, 4.0)

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "moonshine": random_models.moonshine,
    "moonshine_streaming": lambda folder: random_models.moonshine(folder, streaming=True),
    "parakeet_ctc": lambda folder: random_models.parakeet(folder, tdt=False),
    "parakeet_tdt": lambda folder: random_models.parakeet(folder, tdt=True),
    "wav2vec2": random_models.wav2vec2,
    "glmasr": lambda folder: random_models.listening_chat(folder, qwen=False),
    "qwen3_asr": lambda folder: random_models.listening_chat(folder, qwen=True),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: build(tmp_path_factory.mktemp(kind)) for kind, build in BUILDERS.items()}


@pytest.fixture(scope="module")
def models(folders: dict[str, Path]) -> dict[str, Model]:
    return {kind: load(folder) for kind, folder in folders.items()}


pytestmark = [pytest.mark.models, pytest.mark.usefixtures("no_network")]


def load(folder: Path) -> Model:
    return load_model(folder, open_device(SETTINGS), SETTINGS)


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_batch_gives_the_same_as_each_clip_alone(models: dict[str, Model], kind: str) -> None:
    model = models[kind]
    # Qwen's features of the end of a clip depend a little on the padding.
    lengths = (2.0, 2.0, 2.0) if kind == "qwen3_asr" else LENGTHS
    clips = [clip(seconds, seed) for seed, seconds in enumerate(lengths)]
    alone = [model.transcribe([one])[0] for one in clips]
    together = model.transcribe(clips)
    assert texts(together) == texts(alone)
    assert len(set(texts(alone))) == len(clips)
    assert [one.words for one in together] == [one.words for one in alone]


@pytest.mark.parametrize("kind", ["parakeet_ctc", "parakeet_tdt", "wav2vec2"])
def test_words_have_timestamps(models: dict[str, Model], kind: str) -> None:
    one = clip(2.5, 3)
    (recognition,) = models[kind].transcribe([one])
    if not recognition.words:  # a random model may write bytes without clear word boundaries
        assert kind != "wav2vec2"
        return
    assert [word.text for word in recognition.words] == recognition.text.split()
    assert all(0 <= word.start < word.end <= len(one.samples) + 1280 for word in recognition.words)
    assert all(before.start <= after.start for before, after in pairwise(recognition.words))


@pytest.mark.parametrize("kind", BUILDERS)
def test_it_transcribes_the_shortest_clip_that_passes_the_voice_gate(models: dict[str, Model], kind: str) -> None:
    assert len(models[kind].transcribe([clip(0.1)])) == 1


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("kind", ["moonshine", "wav2vec2", "glmasr"])
def test_it_transcribes_with_half_the_bits(folders: dict[str, Path], kind: str, dtype: str) -> None:
    settings = SETTINGS.model_copy(update={"dtype": dtype})
    model = load_model(folders[kind], open_device(settings), settings)
    assert model.transcribe([clip(1)])[0].text


def test_a_chat_model_gets_language_and_hints(models: dict[str, Model]) -> None:
    model, pcm = models["qwen3_asr"], voice(1.5)
    asked = [("", ""), ("en", ""), ("en", "Ada, Boole"), ("de", "")]
    clips = [Clip((pcm,), language, hints) for language, hints in asked]
    together = model.transcribe(clips)
    assert texts(together) == [model.transcribe([one])[0].text for one in clips]
    assert len(set(texts(together))) == len(asked)
    assert [one.language for one in together] == [language for language, _ in asked]
    assert "yue" in model.languages
    assert model.detects
    # This model takes a prompt as an instruction, so it gets no hints.
    without_hints = models["glmasr"]
    assert without_hints.transcribe([Clip((pcm,), "", "Ada")]) == without_hints.transcribe([Clip((pcm,), "", "")])


def test_models_that_padding_changes_do_not_support_batching(models: dict[str, Model]) -> None:
    assert {kind for kind, model in models.items() if not model.supports_batching} == {
        "moonshine",
        "moonshine_streaming",
        "wav2vec2",
    }


@pytest.mark.parametrize("kind", ["bert", "vits", "llama", "dia", "speecht5"])
def test_a_model_that_cannot_transcribe_is_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UnknownEngine, match=kind):
        load(tmp_path)


@pytest.mark.parametrize("config", ["", "{", "[]", "{}", '{"model_type": "nonesuch"}', '{"model_type": 7}'])
def test_a_damaged_configuration_is_named(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(UnknownEngine, match=str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["moonshine", "parakeet_ctc"])
@pytest.mark.parametrize("file", ["processor_config.json", "tokenizer.json", "model.safetensors", "config.json"])
def test_a_missing_file_is_named(folders: dict[str, Path], tmp_path: Path, kind: str, file: str) -> None:
    shutil.copytree(folders[kind], tmp_path, dirs_exist_ok=True)
    (tmp_path / file).unlink()
    with pytest.raises(UnknownEngine, match=str(tmp_path)):
        load(tmp_path)


@pytest.mark.parametrize("left", [0, 7, 5_000])
def test_truncated_weights_are_named(folders: dict[str, Path], tmp_path: Path, left: int) -> None:
    shutil.copytree(folders["moonshine"], tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:left])
    with pytest.raises(UnknownEngine, match=str(tmp_path)):
        load(tmp_path)


def test_missing_weights_are_named(folders: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(folders["parakeet_ctc"], tmp_path, dirs_exist_ok=True)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["ctc_head.bias"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UnknownEngine, match=r"1 weights are missing, such as ctc_head\.bias"):
        load(tmp_path)


def test_another_sample_rate_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(folders["moonshine"], tmp_path, dirs_exist_ok=True)
    file = tmp_path / "processor_config.json"
    file.write_text(file.read_text().replace("16000", "24000"))
    with pytest.raises(UnknownEngine, match="24000 Hz"):
        load(tmp_path)


@pytest.mark.parametrize("kind", ["voxtral", "voxtral_realtime"])
def test_a_missing_package_is_named(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_utils, "is_mistral_common_available", lambda: False)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(UnknownEngine, match=rf"of a {kind} .*mistral-common.* make install EXTRAS=voxtral$"):
        load(tmp_path)


def test_voxtral_gets_a_transcription_request(tmp_path: Path) -> None:
    model = load(random_models.voxtral(tmp_path))
    clips = [clip(seconds, seed, language) for seed, (seconds, language) in enumerate([(1, "en"), (2, ""), (1, "de")])]
    together = model.transcribe(clips)
    assert texts(together) == [model.transcribe([one])[0].text for one in clips]
    assert [one.language for one in together] == ["en", "", "de"]
    english, german = (model.transcribe([Clip(clips[0].pieces, language)])[0].text for language in ("en", "de"))
    assert english != german
