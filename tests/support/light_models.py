"""The real models of the light profile, for tests: folders of one model each under PARLEY_TEST_MODELS."""

import os
from pathlib import Path

import pytest

VARIABLE = "PARLEY_TEST_MODELS"


def light_model(name: str) -> Path:
    """Return the folder of a model. The test is skipped if it is not on this machine."""
    folders = os.environ.get(VARIABLE)
    if not folders:
        pytest.skip(f"{VARIABLE} is not set: a folder with one folder for each model")
    folder = Path(folders) / name
    if not folder.is_dir():
        pytest.skip(f"{name} is not in {folders}")
    return folder
