"""`parley models warm`: loads every engine of the settings as its worker would, and says how long it took."""

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator, Mapping

import psutil

from deploy.models.catalog import size_text
from shared.engines.registry import UnknownEngine, create_engine, loaded
from shared.settings import STAGES, Settings


def run_warm(settings: Settings) -> int:
    """Load the engines one after another, each alone. Returns 0 where all load, else 1."""
    return asyncio.run(_warm(settings))


async def _warm(settings: Settings) -> int:
    failed = False
    for stage, name, builtin in _engines(settings):
        if sys.stdout.isatty():
            print(f"  {stage} {name} …", end="\r", flush=True)
        try:
            told = await _load(stage, name, builtin, settings)
        except UnknownEngine as error:
            failed = True
            print(f"✗ {stage} {name}: {error}", flush=True)
        except Exception as error:  # noqa: BLE001  a library of models can raise anything, and the person has to read it
            failed = True
            print(f"✗ {stage} {name}: {type(error).__name__}: {_first_line(error)}", flush=True)
        else:
            print(f"✓ {stage} {name}: {told}", flush=True)
    return 1 if failed else 0


def _engines(settings: Settings) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    for stage in STAGES:
        engines = importlib.import_module(f"services.{stage}.engine").ENGINES
        yield stage, getattr(settings, f"{stage}_engine"), engines
        if stage == "vad":
            yield (
                "endpoint",
                settings.endpoint_engine,
                importlib.import_module("services.vad.endpointing.engine").ENGINES,
            )


async def _load(stage: str, name: str, builtin: Mapping[str, str], settings: Settings) -> str:
    """Seconds that an engine took to load, and the memory that it holds."""
    memory, gpu_memory = psutil.Process().memory_info().rss, _gpu_bytes()
    started_s = time.monotonic()
    async with loaded(create_engine(stage, name, builtin, settings)):
        told = f"{time.monotonic() - started_s:.1f} s"
        told += f", {size_text(max(0, psutil.Process().memory_info().rss - memory))}"
        if on_gpu := _gpu_bytes() - gpu_memory:
            told += f", {size_text(on_gpu)} on the GPU"
    return told


def _gpu_bytes() -> int:
    """What torch holds of the GPU's memory, if an engine has imported it."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), "")
