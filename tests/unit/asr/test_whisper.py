"""Whisper: text and confidence as in greedy decoding by hand; language detection; hints are used and not repeated."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from services.asr.engines.loading import load_model
from services.asr.engines.model import Clip
from services.asr.engines.whisper import Whisper
from shared.engines.devices import open_device
from shared.settings import Settings
from tests.support import random_models
from tests.support.sounds import clip, texts, voice

pytestmark = pytest.mark.models

SETTINGS = Settings(device="cpu")
LONG = "Ada Lovelace " * 200


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_models.whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def model(folder: Path) -> Whisper:
    return load(folder)


def load(folder: Path) -> Whisper:
    model = load_model(folder, open_device(SETTINGS), SETTINGS)
    assert isinstance(model, Whisper)
    return model


def by_hand(model: Whisper, clip: Clip) -> tuple[str, float]:
    """Decode greedily without `generate` and without a cache. Returns the text and the mean log-probability."""
    import torch

    whisper: Any = model._model
    config = whisper.generation_config
    features = model._processor([clip.samples], sampling_rate=16_000, return_tensors="pt").input_features
    tokens = model._prompt(clip.hints).tolist() if clip.hints else []
    tokens += [config.decoder_start_token_id, config.lang_to_id[f"<|{clip.language}|>"]]
    tokens += [config.task_to_id["transcribe"], config.no_timestamps_token_id]
    begin, log_probabilities = len(tokens), []
    with torch.inference_mode():
        while len(tokens) - begin < min(clip.max_tokens, 224, 448 - begin):
            scores = whisper(input_features=features, decoder_input_ids=torch.tensor([tokens])).logits[0, -1]
            scores[config.suppress_tokens] = -torch.inf
            log_softmax = scores.log_softmax(-1)
            best = int(log_softmax.argmax())
            log_probabilities.append(float(log_softmax[best]))
            if best == config.eos_token_id:
                break
            tokens.append(best)
    return model._processor.decode(tokens[begin:], skip_special_tokens=True).strip(), float(np.mean(log_probabilities))


@pytest.mark.parametrize("hints", ["", "Ada, Boole", LONG])
@pytest.mark.parametrize("seed", [1, 2])
def test_the_result_is_that_of_greedy_decoding(model: Whisper, hints: str, seed: int) -> None:
    one = clip(0.6, seed, "en", hints)
    (recognition,) = model.transcribe([one])
    text, confidence = by_hand(model, one)
    assert recognition.text == text
    assert recognition.confidence == pytest.approx(confidence, abs=1e-4)
    assert recognition.language == "en"
    assert 0 <= (recognition.no_speech or 0) <= 1


def test_a_batch_gives_the_same_as_each_clip_alone(model: Whisper) -> None:
    asked = [("en", ""), ("", "Ada"), ("de", ""), ("", "Ada"), ("sv", "Boole, Babbage and the others")]
    clips = [clip(0.5 + seed % 3, seed, *options) for seed, options in enumerate(asked)]
    together = model.transcribe(clips)
    alone = [model.transcribe([one])[0] for one in clips]
    assert texts(together) == texts(alone)
    assert [one.language for one in together] == [one.language for one in alone]
    assert [one.confidence for one in together] == pytest.approx([one.confidence for one in alone], abs=1e-3)


def test_hints_are_used_and_not_repeated(model: Whisper) -> None:
    pcm = voice(1)
    plain, hinted, long = model.transcribe([Clip((pcm,), "en", hints) for hints in ("", "Zanzibar", LONG)])
    assert len({plain.text, hinted.text, long.text}) == 3
    assert not any("Zanzibar" in recognition.text or "Ada" in recognition.text for recognition in (plain, hinted, long))


def test_hints_are_cut_to_the_trained_length_and_contain_no_special_tokens(model: Whisper) -> None:
    special = model._model.generation_config.prev_sot_token_id
    assert len(model._prompt("Ada")) == 1 + len(" Ada")  # the tokenizer has one token for each byte
    longest = model._prompt(LONG)
    assert len(longest) == 224
    assert longest[0] == special
    assert model._processor.decode(longest[1:]).endswith("Ada Lovelace")
    tokens = model._prompt("<|endoftext|> <|startofprev|>").tolist()
    assert tokens[0] == special
    assert all(token not in model._processor.tokenizer.all_special_ids for token in tokens[1:])


def test_the_longest_window_and_the_longest_hints_fit(model: Whisper) -> None:
    assert model.transcribe([clip(28, 1, "en", LONG)])[0].text


def test_an_english_only_model_gets_no_language(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    file = tmp_path / "generation_config.json"
    config = json.loads(file.read_text())
    del config["lang_to_id"], config["task_to_id"]
    # Beam search and sampling of the folder's settings must be ignored.
    file.write_text(json.dumps({**config, "is_multilingual": False, "num_beams": 3, "do_sample": True}))
    model = load(tmp_path)
    assert (model.languages, model.detects) == ({"en"}, False)
    first, again = (model.transcribe([clip(1, 1, "en"), clip(2, 2, "en")]) for _ in range(2))
    assert texts(first) == texts(again)
    assert all(recognition.language == "en" and recognition.text for recognition in first)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_it_transcribes_with_half_the_bits(folder: Path, dtype: str) -> None:
    settings = SETTINGS.model_copy(update={"dtype": dtype})
    (recognition,) = load_model(folder, open_device(settings), settings).transcribe([clip(1, 1, "en", "Ada")])
    assert recognition.text
    assert recognition.confidence is not None
    assert recognition.confidence < 0
