"""The installed distribution: its version, and the command that installs an optional part."""

import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Literal

NAME = "parley-voice"
"""The distribution's name; `parley` on the package index is another project."""

Extra = Literal["light", "neural", "speech", "voxtral", "omni", "japanese", "chinese", "f5", "otel", "bench"]
"""The optional parts of pyproject.toml that messages name."""

_ROOT = Path(__file__).parents[1]


def checkout() -> Path | None:
    """The repository that this code runs from; None where it was installed from a wheel."""
    return _ROOT if (_ROOT / "pyproject.toml").is_file() else None


@cache
def version() -> str:
    """The version of the installed distribution, or of the checkout where none is installed."""
    try:
        return installed_version(NAME)
    except PackageNotFoundError:
        root = checkout()
        return tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"] if root else "unknown"


def how_to_install(extra: Extra) -> str:
    return "make install PROFILE=neural" if extra == "neural" else f"make install EXTRAS={extra}"


def not_installed(what: str, extra: Extra, missing: str | None = None) -> str:
    """The message about an optional part that is missing, with the command that installs it.

    Args:
        what: The part, as the subject of a sentence: "The kokoro engine".
        extra: The optional part of pyproject.toml that contains it.
        missing: The Python package that was not found, where it is known.
    """
    cause = f" (missing: {missing})" if missing else ""
    return f"{what} is not installed{cause}. Run: {how_to_install(extra)}"
