"""A run of the engines' benchmark: engines one after another, each at several numbers of sessions."""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.status import Status

from benchmarks.compare import print_regressions, read_baseline
from benchmarks.engines.comparison import KIND, compare_results
from benchmarks.engines.figures import Piece, figures
from benchmarks.engines.load import LIMIT_S, Material, Work, converse, offsets, reply, rush, speak, transcribe
from benchmarks.engines.profile import profiled
from benchmarks.engines.report import RANDOM, print_result
from benchmarks.engines.setup import STAGES, Chosen, Memory, Options, choose, device_facts, opened, settings_of
from benchmarks.result import RESULTS, USAGE_WRONG, circumstances, result_path, write_result
from benchmarks.tables import open_console
from shared.engines.registry import UnknownEngine

CHAIN = "chain"
WIDTH = 180
INTERRUPTED = 130

Load = Callable[..., Coroutine[Any, Any, Piece]]
"""Takes the engines that it needs and the material."""

_LOADS: Mapping[str, Load] = {"asr": transcribe, "llm": reply, "tts": speak, CHAIN: converse}


def run_engines(options: Options) -> int:
    """Measure, show and write. Returns 0; 1 if a figure regressed or could not be measured; 2 if the settings are wrong."""
    console = open_console(sys.stdout, WIDTH)
    try:
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            return asyncio.run(_run(options, Path(folder), console))
    except (UnknownEngine, ValueError) as error:
        print(error, file=sys.stderr)
        return USAGE_WRONG
    except KeyboardInterrupt:
        return INTERRUPTED


async def _run(options: Options, folder: Path, console: Console) -> int:
    result = await asyncio.to_thread(_begin, options)
    kind = "-".join(["engines", result["device"]["kind"], *(["random", options.size] if options.random else [])])
    path = options.json or result_path(RESULTS, kind, result)
    baseline = await asyncio.to_thread(read_baseline, options.compare, KIND, result, path)
    with console.status("") as status:
        bench = Bench(options, folder, status, result)
        await bench.prepare()
        for stage in [*(options.engines or STAGES), *([CHAIN] if options.chain else [])]:
            await bench.measure(stage)
    print_result(result, console)
    await asyncio.to_thread(write_result, result, path)
    console.print(str(path), markup=False)
    regressed = print_regressions(compare_results, baseline, result, console)
    return 1 if regressed or any(entry["error"] for entry in result["entries"]) else 0


def _begin(options: Options) -> dict[str, Any]:
    """A result without entries yet."""
    return circumstances() | {
        "device": device_facts(settings_of(options)),
        "size": options.size if options.random else "real",
        "note": RANDOM if options.random else "",
        "seconds": options.seconds,
        "repeat": options.repeat,
        "speech": "recorded" if options.clips else "synthetic",
        "entries": [],
        "profiles": {},
    }


class Bench:
    """A run: its engines one after another, each closed before the next is loaded."""

    def __init__(self, options: Options, folder: Path, status: Status, result: dict[str, Any]) -> None:
        self._options, self._folder, self._status, self._result = options, folder, status, result
        self._chosen: dict[str, Chosen] = {}

    async def prepare(self) -> None:
        """Find all engines and make their models, so that wrong settings fail before anything is measured."""
        stages = STAGES if self._options.chain else tuple(self._options.engines or STAGES)
        for stage in stages:
            self._status.update(f"{stage}: making ready")
            self._chosen[stage] = await choose(stage, self._options, self._folder)

    async def measure(self, stage: str) -> None:
        """Measure one engine, or the chain of all three in one process."""
        chosen = [self._chosen[one] for one in (STAGES if stage == CHAIN else (stage,))]
        about = {
            "stage": stage,
            "engine": " + ".join(one.name for one in chosen),
            "model": " + ".join(one.model for one in chosen),
            "random": any(one.is_random for one in chosen),
        }
        load, memory = _LOADS[stage], Memory()
        self._status.update(f"{stage} {about['engine']}: loading")
        try:
            async with AsyncExitStack() as stack:
                engines = [await stack.enter_async_context(opened(one)) for one in chosen]
                language = chosen[0].settings.session.language
                letters = any(one.stage == "llm" and one.is_random for one in chosen)
                options = self._options
                material = await asyncio.to_thread(
                    Material, options.seconds, language, letters=letters, clips=options.clips
                )
                await self._measure(about, lambda: load(*engines, material), memory)
        except Exception as error:  # noqa: BLE001  a library of models can raise anything; the figures of the other engines are still wanted
            self._add(about, 0)["error"] = _reason(error)

    def _add(self, about: Mapping[str, Any], batch: int) -> dict[str, Any]:
        entry: dict[str, Any] = {**about, "batch": batch, "figures": {}, "memory": {}, "error": ""}
        self._result["entries"].append(entry)
        return entry

    async def _measure(self, about: Mapping[str, Any], work: Work, memory: Memory) -> None:
        """Measure each batch, and profile the largest."""
        batch = 1
        for batch in self._options.batches:
            entry = self._add(about, batch)
            try:
                entry["figures"] = await self._batch(about, work, batch, memory)
                entry["memory"] = memory.grown_mb()
            except Exception as error:  # noqa: BLE001  the figures of smaller batches are still wanted
                entry["error"] = _reason(error)
                return  # a larger batch would hardly do better
        if self._options.profile:
            self._status.update(f"{about['stage']} {about['engine']}: profile")
            self._result["profiles"][f"{about['stage']} × {batch}"] = await profiled(lambda: rush(work, [0.0] * batch))

    async def _batch(self, about: Mapping[str, Any], work: Work, batch: int, memory: Memory) -> dict[str, Any]:
        await rush(work, [0.0] * batch)  # warm up with this batch: its shapes are new to the engine
        memory.restart_peak()
        together: list[list[Piece]] = []
        staggered: list[list[Piece]] = []
        for repetition in range(self._options.repeat):
            done = f"{repetition} of {self._options.repeat} repetitions"
            self._status.update(f"{about['stage']} {about['engine']} × {batch}: {done}")
            together.append(await rush(work, [0.0] * batch))
            staggered.append(await rush(work, offsets(batch, repetition)))
        return figures(str(about["stage"]), together, staggered)


def _reason(error: BaseException) -> str:
    """The first of a group's errors, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, TimeoutError):
        return f"a repetition took longer than {LIMIT_S:g} s"
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}"
