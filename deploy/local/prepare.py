"""What a start needs beforehand: the packages and the models of the engines that the settings choose."""

import sys
from collections.abc import Callable
from importlib.util import find_spec

from deploy.local.supervisor import StartFailed
from deploy.models.pull import ensure, progress_bars
from deploy.models.sources import Progress
from shared.distribution import how_to_install
from shared.engines.models import stored_model
from shared.engines.registry import UnknownEngine
from shared.settings import PROFILES, Settings

PACKAGES = {
    "silero": "onnxruntime",
    "smart-turn": "onnxruntime",
    "fused": "onnxruntime",
    "faster-whisper": "faster_whisper",
    "llama-cpp": "xllamacpp",
    "piper": "piper",
}
"""The package that an engine of the profile light imports."""


def prepare(settings: Settings, say: Callable[[str], None]) -> Settings:
    """Download the models that this machine lacks. Returns the settings to start with.

    Where the profile light cannot run, because its packages are not installed or no source of its models answers, these are the
    settings of the profile classic, which needs neither. `say` gets the reason.

    Raises:
        StartFailed: models are missing, and another profile would not help; the message lists them with the reasons.
    """
    missing = _missing_packages(settings) or _missing_models(settings, say)
    if not missing:
        return settings
    if settings.profile == "light" and all(name in PACKAGES.values() or stored_model(name) for name in missing):
        reason = next(iter(missing.values())).splitlines()[0]
        say(f"the profile light cannot start: {reason} Started instead: classic. `make run` tries light again.")
        return Settings(profile="classic")
    raise StartFailed("\n".join(dict.fromkeys(missing.values())))


def _missing_packages(settings: Settings) -> dict[str, str]:
    chosen = {getattr(settings, name) for name, value in PROFILES["light"].items() if value in PACKAGES}
    missing = {PACKAGES[engine] for engine in chosen if engine in PACKAGES and find_spec(PACKAGES[engine]) is None}
    return {name: f"the package {name} is not installed: {how_to_install('light')}." for name in sorted(missing)}


def _missing_models(settings: Settings, say: Callable[[str], None]) -> dict[str, str]:
    try:
        with progress_bars() as progress:
            return ensure(settings, progress if sys.stderr.isatty() else _announced(say))
    except UnknownEngine as error:
        raise StartFailed(str(error)) from error


def _announced(say: Callable[[str], None]) -> Progress:
    """Say which model is downloaded, once for each: where no terminal shows a bar, a start is silent for half a minute."""
    announced = set[str]()

    def show(name: str, done: int, total: int) -> None:
        if name not in announced:
            announced.add(name)
            say(f"downloading {name}, {total / 1e6:.0f} MB")

    return show
