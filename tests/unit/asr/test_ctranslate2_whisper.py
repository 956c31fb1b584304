"""Calls of CTranslate2's Whisper: windows, prompts, languages, limits, devices. The library is scripted."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from services.asr.engines.ctranslate2_whisper import CTranslate2Whisper, window_s
from services.asr.engines.faster_whisper import FasterWhisperRecognizer, allow_avx512, choose_device, compute_type
from services.asr.engines.model import Clip
from shared.engines.registry import UnknownEngine
from shared.settings import Settings
from tests.support.sounds import clip, texts

TOKENS = ["Ġten", "Ġof", "Ġclubs", ".", "<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|sv|>"]
TOKENS += ["<|transcribe|>", "<|startofprev|>", "<|notimestamps|>"]
END, START, EN, DE, SV, TRANSCRIBE, PREVIOUS, NO_TIMESTAMPS = range(4, len(TOKENS))
ROW = [0, 1, 2, 3]


class ScriptedWhisper:
    """Stands for `WhisperModel`, its model, tokenizer and features. It writes "ten of clubs." and records its calls."""

    max_length = 448
    supported_languages = ("de", "en", "sv", "yue")  # this model has no token for the last one

    def __init__(
        self, *, multilingual: bool = True, row: list[int] = ROW, detects: str = "sv", device: str = "cpu"
    ) -> None:
        self.model = self.hf_tokenizer = self
        self.device = device
        self.is_multilingual, self._row, self._detects = multilingual, row, detects
        self.frames: list[tuple[int, ...]] = []
        self.prompts: list[list[list[int]]] = []
        self.limits: list[int] = []
        self.detections = 0

    def token_to_id(self, token: str) -> int | None:
        return TOKENS.index(token) if token in TOKENS else None

    def encode(self, value: Any, add_special_tokens: bool = True) -> Any:
        """A tokenizer encodes text, and a model features."""
        if isinstance(value, str):
            return SimpleNamespace(ids=[0] * len(value.split()))
        self.frames.append(tuple(value.shape))
        return value

    def decode(self, row: list[int]) -> str:
        return "".join(TOKENS[token] for token in row).replace("Ġ", " ")

    def feature_extractor(self, samples: Any) -> Any:
        return np.ones((80, len(samples) // 160 + 1), np.float32)

    def detect_language(self, encoded: Any) -> list[list[tuple[str, float]]]:
        self.detections += 1
        return [[(f"<|{self._detects}|>", 0.9), ("<|en|>", 0.1)]] * encoded.shape[0]

    def generate(self, encoded: Any, prompts: list[list[int]], *, max_length: int, **options: Any) -> list[Any]:
        self.prompts.append(prompts)
        self.limits.append(max_length)
        return [SimpleNamespace(sequences_ids=[self._row], scores=[-0.5], no_speech_prob=0.1) for _ in prompts]


@pytest.mark.parametrize(
    ("seconds", "window"), [(0.1, 15), (12, 15), (12.1, 20), (17, 20), (22.5, 30), (28, 30), (60, 30)]
)
def test_a_clip_gets_the_smallest_window_that_leaves_a_silence(seconds: float, window: int) -> None:
    assert window_s(seconds) == window


def test_a_call_has_clips_of_one_window_and_the_same_hints() -> None:
    whisper = ScriptedWhisper()
    clips = [clip(1, 1, "en"), clip(14, 2, "en"), clip(2, 3, "de"), clip(2, 4, "en", "Ada Lovelace")]
    recognitions = CTranslate2Whisper(whisper).transcribe(clips)
    assert whisper.frames == [(2, 80, 1500), (1, 80, 2000), (1, 80, 1500)]
    assert whisper.prompts == [
        [[START, EN, TRANSCRIBE, NO_TIMESTAMPS], [START, DE, TRANSCRIBE, NO_TIMESTAMPS]],
        [[START, EN, TRANSCRIBE, NO_TIMESTAMPS]],
        [[PREVIOUS, 0, 0, START, EN, TRANSCRIBE, NO_TIMESTAMPS]],
    ]
    assert [recognition.language for recognition in recognitions] == ["en", "en", "de", "en"]
    assert texts(recognitions) == ["ten of clubs."] * 4


def test_only_a_gpu_takes_less_time_for_several_clips_together() -> None:
    assert CTranslate2Whisper(ScriptedWhisper(device="cuda")).supports_batching
    assert not CTranslate2Whisper(ScriptedWhisper()).supports_batching


def test_the_language_is_detected_only_where_none_is_given() -> None:
    whisper = ScriptedWhisper()
    model = CTranslate2Whisper(whisper)
    assert (model.languages, model.detects) == ({"de", "en", "sv"}, True)
    model.transcribe([clip(1, 1, "en")])
    assert whisper.detections == 0
    found = model.transcribe([clip(1, 1, "en"), clip(1, 2)])
    assert whisper.detections == 1
    assert [recognition.language for recognition in found] == ["en", "sv"]
    assert [prompt[1] for prompt in whisper.prompts[-1]] == [EN, SV]


def test_an_english_model_gets_no_language() -> None:
    whisper = ScriptedWhisper(multilingual=False)
    model = CTranslate2Whisper(whisper)
    assert (model.languages, model.detects) == ({"en"}, False)
    (recognition,) = model.transcribe([clip(1, 1, "en")])
    assert recognition.language == "en"
    assert whisper.prompts == [[[START, NO_TIMESTAMPS]]]


def test_confidence_and_no_speech_come_with_the_text() -> None:
    (recognition,) = CTranslate2Whisper(ScriptedWhisper()).transcribe([clip(1, 1, "en")])
    assert recognition.confidence == pytest.approx(-0.5 * 4 / 5)
    assert recognition.no_speech == 0.1


def test_a_text_is_no_longer_than_its_clip_allows() -> None:
    whisper = ScriptedWhisper(row=[0] * 400)
    short, long = CTranslate2Whisper(whisper).transcribe([Clip((bytes(3200),), "en"), clip(2, 1, "en")])
    assert len(short.text.split()) == 15
    assert len(long.text.split()) == 72
    assert whisper.limits == [2 * 72]  # CTranslate2 generates half of it


def test_the_longest_hints_leave_room_for_the_text() -> None:
    whisper = ScriptedWhisper()
    CTranslate2Whisper(whisper).transcribe([clip(1, 1, "en", "Ada " * 900)])
    assert len(whisper.prompts[0][0]) == 224 + 4
    assert whisper.limits == [42 + 224 + 4]


def test_an_empty_text_has_no_confidence() -> None:
    whisper = ScriptedWhisper(row=[])
    (recognition,) = CTranslate2Whisper(whisper).transcribe([clip(1, 1, "en")])
    assert (recognition.text, recognition.confidence) == ("", None)


@pytest.mark.parametrize(
    ("options", "kind", "number"),
    [
        ({}, "cpu", "int8_float32"),
        ({}, "cuda", "float16"),
        ({"quantize": "int8"}, "cuda", "int8_float16"),
        ({"dtype": "float32"}, "cpu", "float32"),
        ({"dtype": "float32", "quantize": "int8"}, "cpu", "int8_float32"),
        ({"dtype": "bfloat16"}, "cuda", "bfloat16"),
    ],
)
def test_the_number_format_suits_the_device(options: dict[str, str], kind: str, number: str) -> None:
    assert compute_type(Settings(**{"dtype": "auto", **options}), kind) == number


@pytest.mark.parametrize(
    ("device", "torch_sees", "count", "chosen"),
    [
        ("auto", "cuda", 0, ("cpu", 0)),
        ("auto", "cuda", 2, ("cuda", 0)),
        ("auto", "cpu", 1, ("cpu", 0)),
        ("cuda:1", "cuda", 2, ("cuda", 1)),
        ("cpu", "cuda", 1, ("cpu", 0)),
    ],
)
def test_a_gpu_is_used_if_both_libraries_see_it(
    monkeypatch: pytest.MonkeyPatch, device: str, torch_sees: str, count: int, chosen: tuple[str, int]
) -> None:
    torch = SimpleNamespace(
        cuda=SimpleNamespace(is_available=lambda: torch_sees == "cuda"),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False)),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert choose_device(Settings(device=device), count) == chosen


@pytest.mark.parametrize(("device", "says"), [("cuda:2", "has 2 CUDA devices"), ("mps", "PARLEY_ASR_DEVICE=cpu")])
def test_a_device_that_cannot_be_used_is_named(device: str, says: str) -> None:
    with pytest.raises(UnknownEngine, match=rf"PARLEY_DEVICE='{device}'.*{says}"):
        choose_device(Settings(device=device), 2)


@pytest.mark.parametrize(
    ("flags", "set_before", "chosen"),
    [
        ("avx2 avx512f avx512_vnni", "", "AVX512"),
        ("avx2 avx512f avx512_vnni", "AVX2", "AVX2"),
        ("avx2 avx512f", "", None),
        (None, "", None),  # not Linux
    ],
)
def test_avx512_is_used_where_the_clock_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, flags: str | None, set_before: str, chosen: str | None
) -> None:
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", set_before)  # undone at the end, also what the function sets
    if not set_before:
        monkeypatch.delenv("CT2_FORCE_CPU_ISA")
    processors = tmp_path / "cpuinfo"
    if flags is not None:
        processors.write_text(f"processor\t: 0\nflags\t\t: fpu {flags}\nbugs\t\t: none\n")
    allow_avx512(processors)
    assert os.environ.get("CT2_FORCE_CPU_ISA") == chosen


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "AVX2")
    with pytest.raises(UnknownEngine, match=r"faster.whisper.* make install EXTRAS=light$"):
        FasterWhisperRecognizer(Settings())._load()
