"""The real models that tests run, from the folder that PARLEY_TEST_MODELS names: a folder for each model."""

import os
from pathlib import Path

import pytest


def light_model(name: str) -> Path:
    """Return the folder of a model; skip the test if it is missing."""
    folder = Path(os.environ.get("PARLEY_TEST_MODELS", "")) / name
    if "PARLEY_TEST_MODELS" not in os.environ or not folder.is_dir():
        pytest.skip(f"PARLEY_TEST_MODELS names no folder with the model {name}")
    return folder
