"""Engines by name: one that comes with Parley, or any `module:Class`."""

import pytest

from services.asr.engine import ENGINES as ASR
from services.asr.engines.scripted import ScriptedRecognizer
from shared.engines.registry import UnknownEngine, create_engine
from shared.settings import Settings


def test_a_name_stands_for_a_class_which_gets_the_settings() -> None:
    settings = Settings(scripted_text="Hello.")
    for name in ("scripted", "services.asr.engines.scripted:ScriptedRecognizer"):
        assert isinstance(create_engine("asr", name, ASR, settings), ScriptedRecognizer)
    assert create_engine("asr", "echo", {"echo": "builtins:id"}, settings) == id(settings)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sphynx", r"PARLEY_ASR_ENGINE='sphynx': known are a, sphinx, or module:Class"),
        ("nowhere.at_all:Engine", "PARLEY_ASR_ENGINE='nowhere.at_all:Engine': No module named 'nowhere'"),
        ("shared.engines.registry:Nobody", "has no attribute 'Nobody'"),
    ],
)
def test_what_cannot_be_found_is_named(name: str, says: str) -> None:
    with pytest.raises(UnknownEngine, match=says):
        create_engine("asr", name, {"sphinx": "x:Y", "a": "b:C"}, Settings())
