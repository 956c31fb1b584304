"""The models of the profile light, for tests that run them. Such a test has the marker `models`."""

import os
from functools import cache
from pathlib import Path

import pytest

from deploy.models.store import Store
from shared.engines.catalog import catalog
from shared.settings import load_settings

MODELS = ("whisper-tiny.en", "smollm2-135m-instruct", "piper-en_US-joe-medium", "smart-turn-v3.2", "silero-vad")


def light_env(**settings: str) -> dict[str, str]:
    """The environment of a system with the profile light, its models and these settings; it asks nobody for a file."""
    folders = {light_model(name).parent for name in MODELS}
    assert len(folders) == 1
    ours = {"PARLEY_PROFILE": "light", "PARLEY_MODELS_DIR": str(folders.pop())}
    return {**ours, "HF_HUB_OFFLINE": "1", "PIP_NO_INDEX": "1", **settings}


@cache
def light_model(name: str) -> Path:
    """Return the folder of a model of the catalogue; it is downloaded if this machine does not have it.

    It lies in the folder of PARLEY_TEST_MODELS, if that has it, and else in PARLEY_MODELS_DIR. Of several test processes one
    downloads. Without the model the test is skipped; in CI, where every skipped test fails, with the reason.
    """
    entry = catalog()[name]
    given = Path(os.environ.get("PARLEY_TEST_MODELS", "/nowhere"), name)
    if not entry.missing_files(given):
        return given
    folder = load_settings().models_dir
    if failed := Store(folder).pull([entry]):
        pytest.skip(failed[name])
    return folder / name
