"""`parley models warm`: loads every engine of the settings as its worker does, and prints time and memory."""

import asyncio
import importlib
import sys
import time
from collections.abc import Iterator, Mapping

import psutil

from deploy.models.used import size_text
from shared.engines.registry import UnknownEngine, create_engine, first_line, loaded
from shared.settings import STAGES, Settings


def run_warm(settings: Settings) -> int:
    """Load the engines one after another, each closed before the next. Returns 0 if all load, otherwise 1."""
    return asyncio.run(_warm(settings))


async def _warm(settings: Settings) -> int:
    failed = False
    for stage, name, builtin in _engines(settings):
        if sys.stdout.isatty():
            print(f"  {stage} {name} …", end="\r", flush=True)
        try:
            cost = await _load(stage, name, builtin, settings)
        except UnknownEngine as error:
            failed = True
            print(f"✗ {stage} {name}: {error}", flush=True)
        except Exception as error:  # noqa: BLE001  a model library can raise anything
            failed = True
            print(f"✗ {stage} {name}: {type(error).__name__}: {first_line(error)}", flush=True)
        else:
            print(f"✓ {stage} {name}: {cost}", flush=True)
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
    """Load an engine and close it. Returns its loading time and memory, as text."""
    memory, gpu_memory = psutil.Process().memory_info().rss, _gpu_bytes()
    started_s = time.monotonic()
    async with loaded(create_engine(stage, name, builtin, settings)):
        cost = f"{time.monotonic() - started_s:.1f} s"
        cost += f", {size_text(max(0, psutil.Process().memory_info().rss - memory))}"
        if on_gpu := _gpu_bytes() - gpu_memory:
            cost += f", {size_text(on_gpu)} on the GPU"
    return cost


def _gpu_bytes() -> int:
    """GPU memory allocated by torch; 0 if no engine has used torch."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.memory_allocated()) if torch is not None and torch.cuda.is_initialized() else 0
