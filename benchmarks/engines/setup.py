"""Chooses and loads the measured engines, and makes their random models; facts about device and memory."""

import asyncio
import gc
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import psutil
from pydantic import ValidationError

from benchmarks.engines.load import REPLY_TOKENS
from benchmarks.result import cpu_model
from shared.engines.devices import device_kind, open_device
from shared.engines.models import model_name
from shared.engines.registry import create_engine, loaded
from shared.settings import BadSettings, Settings, describe_errors, load_settings
from tests.support.random_models.parts import Size

STAGES = ("asr", "llm", "tts")

MAKERS: Mapping[tuple[str, str], str] = {
    ("asr", "transformers"): "whisper",
    ("llm", "transformers"): "chat",
    ("tts", "kokoro"): "kokoro",
    ("tts", "transformers"): "vits",
}
"""The function of `random_models` that makes the model of an engine. Other engines use their real models."""

TOKENS_PER_SPEECH_S = 4
"""Tokens that a random Whisper writes for a second of speech, about three words: it would never end by itself."""

_MB = 1e6


@dataclass(frozen=True, slots=True)
class Options:
    engines: Mapping[str, str]
    """Names by stage; empty: the engines of the profile."""
    batches: tuple[int, ...] = (1, 4, 16, 64)
    random: bool = False
    size: Size = "full"
    """Size of random models."""
    repeat: int = 5
    seconds: float = 5.0
    """Length of an utterance."""
    device: str | None = None
    json: Path | None = None
    compare: Path | None = None
    profile: bool = False
    chain: bool = False
    clips: Path | None = None
    """Folder with recordings; None: a synthetic sound."""


def parse_engines(texts: Sequence[str]) -> dict[str, str]:
    """Parse `asr=transformers` and so on. Returns the names by stage.

    Raises:
        ValueError: no such stage, or no engine.
    """
    found = {}
    for text in texts:
        stage, _, name = text.partition("=")
        if stage not in STAGES or not name:
            raise ValueError(f"--engine {text!r}: it is stage=engine, and a stage is one of {', '.join(STAGES)}")
        found[stage] = name
    return found


def parse_batches(text: str) -> tuple[int, ...]:
    """Parse `1,4,16`. Returns the numbers sorted, each once.

    Raises:
        ValueError: something else.
    """
    try:
        found = sorted({int(part) for part in text.split(",")})
    except ValueError:
        found = []
    if not found or found[0] < 1 or found[-1] > 4096:
        raise ValueError(f"--batch {text!r}: it is numbers from 1 to 4096 with commas between them, as in 1,4,16")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Chosen:
    stage: str
    name: str
    settings: Settings
    model: str
    """What it loads, as shown to people."""

    @property
    def is_random(self) -> bool:
        return self.model.startswith("random ")


def settings_of(options: Options, **overrides: Any) -> Settings:
    """The settings of the environment, with those that a benchmark sets.

    Raises:
        BadSettings: naming every setting that is wrong.
    """
    base = load_settings()
    device = {} if options.device is None else {"device": options.device}
    slots = max(base.model_slots, *options.batches)
    try:
        return Settings(**{**device, "model_slots": slots, "reply_tokens": REPLY_TOKENS, **overrides})
    except ValidationError as error:
        raise BadSettings(describe_errors(error)) from None


async def choose(stage: str, options: Options, folder: Path) -> Chosen:
    """Choose the engine of a stage. A model with random weights is made in `folder`: gigabytes at full size.

    Raises:
        BadSettings, UnknownEngine: the settings are wrong, or the engine has no model.
        ValueError: its model cannot be made with random weights.
    """
    engine = options.engines.get(stage) or getattr(settings_of(options), f"{stage}_engine")
    engine_settings = settings_of(options, **{f"{stage}_engine": engine})
    maker = MAKERS.get((stage, engine)) if options.random else None
    if maker is not None:
        path = folder / f"{stage}-{maker}"
        if not path.exists():
            await asyncio.to_thread(_make, maker, path, options)
        engine_settings = settings_of(options, **{f"{stage}_engine": engine, f"{stage}_model": str(path)})
        return Chosen(stage, engine, engine_settings, f"random {options.size} {maker}")
    try:
        configured = getattr(engine_settings, f"{stage}_model")
        model = model_name(stage, engine, configured, device_kind(engine_settings))
    except ValueError:  # the engine has no model, or finds one by itself
        model = engine
    return Chosen(stage, engine, engine_settings, model)


def _make(maker: str, folder: Path, options: Options) -> None:
    from tests.support import random_models

    make = getattr(random_models, maker)
    takes = signature(make).parameters
    more: dict[str, Any] = {}
    if "size" in takes:
        more["size"] = options.size
    elif options.size != "tiny":
        raise ValueError(f"a random {maker} needs --size tiny: use it, another engine, or real weights")
    if "tokens" in takes:
        more["tokens"] = max(1, round(options.seconds * TOKENS_PER_SPEECH_S))
    make(folder, **more)


def opened(chosen: Chosen) -> AbstractAsyncContextManager[Any]:
    """The engine, loaded for the length of a `with`."""
    builtin = import_module(f"services.{chosen.stage}.engine").ENGINES
    return loaded(create_engine(chosen.stage, chosen.name, builtin, chosen.settings))


def device_facts(settings: Settings) -> dict[str, Any]:
    """The device that models run on: kind, name, dtype, threads, version of torch. Without torch it is the CPU.

    Raises:
        UnknownEngine: there is no such device.
    """
    try:
        import torch
    except ImportError:
        return {"kind": "cpu", "name": cpu_model(), "dtype": None, "threads": None, "torch": None}
    device = open_device(settings)
    facts = {
        "kind": device.kind,
        "name": torch.cuda.get_device_name(device.name) if device.kind == "cuda" else cpu_model(),
        "dtype": str(device.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if device.kind == "cuda":
        facts |= {"cuda": torch.version.cuda, "memory_gib": round(torch.cuda.mem_get_info()[1] / 2**30, 1)}
    return facts


class Memory:
    """Growth of this process's memory since this was made, in MB."""

    def __init__(self) -> None:
        gc.collect()
        self._process = psutil.Process()
        self._rss = self._process.memory_info().rss
        cuda = _cuda()
        if cuda is not None:
            cuda.empty_cache()  # left by the engine before
        self._cuda = (0, 0) if cuda is None else (cuda.memory_allocated(), cuda.memory_reserved())

    def restart_peak(self) -> None:
        """Restart the search for the highest use; what is in use stays counted."""
        if (cuda := _cuda()) is not None:
            cuda.reset_peak_memory_stats()

    def grown_mb(self) -> dict[str, float]:
        """The process's memory now, and the highest use of the GPU's memory since `restart_peak`."""
        found = {"rss_mb": max(0, self._process.memory_info().rss - self._rss) / _MB}
        if (cuda := _cuda()) is not None:
            allocated, reserved = self._cuda
            found["cuda_allocated_mb"] = (cuda.max_memory_allocated() - allocated) / _MB
            found["cuda_reserved_mb"] = (cuda.max_memory_reserved() - reserved) / _MB
        return found


def _cuda() -> Any:
    """`torch.cuda`, if an engine has begun to use it."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None
