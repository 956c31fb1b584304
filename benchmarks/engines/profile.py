"""The most expensive operations of a model, by torch's profiler."""

import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

SHOWN = 10
IDLE_LIMIT = 0.5
"""A device that is idle for a larger share than this waits for Python."""

Operations = Sequence[Mapping[str, Any]]


async def profiled(work: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """Profile the work in all threads. Returns the most expensive operations, the device's idle share and the bottleneck."""
    if "torch" not in sys.modules:
        return {"operations": [], "idle": None, "bottleneck": NO_TORCH}
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    # Engines calculate in their own threads, which the profiler ignores by default.
    config = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # noqa: SLF001
    with profile(activities=activities, experimental_config=config) as profiler:
        await work()
    operations = [
        {"name": one.key, "calls": one.count, "cpu_ms": one.self_cpu_time_total / 1000,
         "device_ms": one.self_device_time_total / 1000}
        for one in profiler.key_averages()
    ]  # fmt: skip
    kernels = _kernels(profiler.events())
    idle = idle_share(kernels) if kernels else None
    return {"operations": most_expensive(operations), "idle": idle, "bottleneck": bottleneck(operations, idle)}


NO_TORCH = "This engine does not calculate with torch: there is nothing to show."


def most_expensive(operations: Operations) -> list[Mapping[str, Any]]:
    """The first ten, by the device's time, then the processor's."""
    return sorted(operations, key=lambda one: (one["device_ms"], one["cpu_ms"]), reverse=True)[:SHOWN]


def bottleneck(operations: Operations, idle: float | None) -> str:
    """Say which operation takes the largest share, and whether the device waits for Python. `idle` is None on a CPU."""
    measure, what = ("cpu_ms", "the processor's time") if idle is None else ("device_ms", "the device's time")
    total = sum(one[measure] for one in operations)
    if not total:
        return NO_TORCH
    first = max(operations, key=lambda one: float(one[measure]))
    said = f"{first['name']} takes {100 * first[measure] / total:.0f} % of {what}"
    if idle is None:
        return f"{said}."
    waits = "it waits for Python" if idle > IDLE_LIMIT else "it is what limits"
    return f"{said}; the device is idle for {100 * idle:.0f} % of it all: {waits}."


def idle_share(kernels: Iterable[tuple[float, float]]) -> float:
    """Share of the time between the first kernel's start and the last kernel's end in which no kernel ran; 1 without kernels."""
    ordered = sorted(kernels)
    if not ordered:
        return 1.0
    busy, until = 0.0, ordered[0][0]
    for start, end in ordered:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    span = until - ordered[0][0]
    return 1 - busy / span if span > 0 else 0.0


def _kernels(events: Any) -> list[tuple[float, float]]:
    """Start and end of each kernel, in microseconds."""
    return [(one.time_range.start, one.time_range.end) for one in events if one.device_type.name == "CUDA"]
