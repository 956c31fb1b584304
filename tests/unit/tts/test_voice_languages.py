"""The language of each voice, as a worker announces it."""

from types import SimpleNamespace
from typing import Any

import pytest

from services.tts.engine import voice_languages
from services.tts.engines.kokoro import KokoroSynthesizer
from services.tts.engines.transformers import TransformersSynthesizer
from services.tts.stage import TtsStage
from shared.settings import Settings


def test_an_engine_that_does_not_say_has_voices_of_any_language() -> None:
    engine: Any = SimpleNamespace(voices=lambda: ("alloy",), rate_hz=24_000, slots=1)
    assert voice_languages(engine) == {}
    assert TtsStage(engine, "some", 30.0).info()["voice_languages"] == {}


def test_a_voice_of_any_language_is_left_out() -> None:
    engine: Any = SimpleNamespace(voices=lambda: ("anna", "robot"), voice_language={"anna": "de", "robot": ""}.get)
    assert voice_languages(engine) == {"anna": "de"}


@pytest.mark.parametrize(
    ("voice", "language"), [("af_heart", "en-US"), ("bm_george", "en-GB"), ("pf_dora", "pt-BR"), ("xx_none", "")]
)
def test_kokoro_names_the_language_in_the_first_letter(voice: str, language: str) -> None:
    assert KokoroSynthesizer(Settings()).voice_language(voice) == language


@pytest.mark.parametrize(
    ("languages", "voice", "language"),
    [
        ({"de"}, "any", "de"),  # MMS has a model for each language
        ({"de", "en"}, "v2/en_speaker_6", "en"),  # Bark
        ({"de", "en"}, "announcer", ""),
        (set(), "en_speaker", ""),
    ],
)
def test_transformers_voices_have_the_language_of_their_model(languages: set[str], voice: str, language: str) -> None:
    engine = TransformersSynthesizer(Settings(tts_model="some/model"))
    engine._model = SimpleNamespace(languages=frozenset(languages))  # type: ignore[assignment]
    assert engine.voice_language(voice) == language
