"""The most expensive operations of a model, by torch's profiler."""

import sys
from collections.abc import Awaitable, Callable

SHOWN = 10
NO_TORCH = "This engine does not calculate with torch: there is nothing to show."


async def profiled(work: Callable[[], Awaitable[object]]) -> str:
    """Profile the work in all threads. Returns torch's table of the operations that take the most time of the device."""
    if "torch" not in sys.modules:
        return NO_TORCH
    import torch
    from torch.profiler import ProfilerActivity, profile

    on_cuda = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    # Engines calculate in their own threads, which the profiler ignores by default.
    config = torch._C._profiler._ExperimentalConfig(profile_all_threads=True)  # noqa: SLF001
    with profile(activities=activities, experimental_config=config) as profiler:
        await work()
    order = "self_cuda_time_total" if on_cuda else "self_cpu_time_total"
    table: str = profiler.key_averages().table(sort_by=order, row_limit=SHOWN, max_name_column_width=40)
    return table
