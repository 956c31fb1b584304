"""Process-wide metrics: the metrics server, build information, event-loop lag and GPU load."""

import asyncio
import errno
import platform
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict
from typing import Any, TypeVar
from wsgiref.simple_server import WSGIServer

import structlog
from prometheus_client import disable_created_metrics, exposition, start_http_server

from shared.distribution import version
from shared.observability import metrics
from shared.observability.gpu import GpuLoad, GpuMeter
from shared.settings import BadSettings, Settings

log = structlog.get_logger()

T = TypeVar("T")

LAG_EVERY_S = 0.25
LAG_KEPT_S = 5.0
"""Period over which the worst lag is reported."""
GPUS_EVERY_S = 5.0
READ_TIMEOUT_S = 2.0
"""A reading takes milliseconds; the driver of a lost GPU may never answer."""

_GAUGES = (
    (metrics.gpu_utilization, "utilization"),
    (metrics.gpu_memory_used, "memory_used"),
    (metrics.gpu_memory_total, "memory_total"),
    (metrics.gpu_process_memory, "memory_process"),
    (metrics.gpu_power, "power_w"),
    (metrics.gpu_temperature, "temperature_c"),
)
"""Each gauge and the field of `GpuLoad` that it shows."""


def serve_metrics(settings: Settings, stage: str) -> WSGIServer | None:
    """Serve this process's metrics in a thread. Return the server; None if the port is 0.

    Raises:
        BadSettings: the port is taken or not permitted, or the host is not an address of this machine.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call] # halves the number of series; nothing uses them
    port, host = settings.metrics_port, settings.metrics_host
    if not port:
        return None
    # A successor listens before its predecessor has stopped.
    exposition.ThreadingWSGIServer.allow_reuse_port = settings.metrics_shared
    try:
        return start_http_server(port, host)[0]
    except (OSError, UnicodeError) as error:  # UnicodeError: the host is not a valid DNS name
        if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
            fix = f"PARLEY_METRICS_PORT={port}: give each process a free port above 1023, or 0 for none"
        else:
            fix = f"PARLEY_METRICS_HOST={host!r}: give an address of this machine; 0.0.0.0 is all of them"
        raise BadSettings(f"{fix} (the metrics of {stage} cannot be served: {error})") from None


def set_build_info(stage: str, engine: str) -> None:
    """Set `build_info` to this process's stage, version, Python and engine, and start its counters at 0."""
    metrics.build_info.clear()
    metrics.start_at_zero(stage)
    metrics.build_info.labels(stage, version(), platform.python_version(), engine).set(1)


class ProcessStats:
    """The process's event-loop lag and GPU load, measured while `run` runs."""

    def __init__(self, stage: str, gpus_every_s: float = GPUS_EVERY_S) -> None:
        self.stage = stage
        self.gpus: tuple[GpuLoad, ...] = ()
        """The latest reading; empty if this process uses no GPU, or it cannot be read."""
        self._gpus_every_s = gpus_every_s
        self._lags: deque[tuple[float, float]] = deque(maxlen=round(LAG_KEPT_S / LAG_EVERY_S))

    @property
    def loop_lag_ms(self) -> float:
        """The event loop's largest lag in the last `LAG_KEPT_S`."""
        since = time.monotonic() - LAG_KEPT_S
        return 1000 * max((lag_s for woke, lag_s in self._lags if woke >= since), default=0.0)

    def load(self) -> dict[str, Any]:
        """Return the load as JSON types, for the worker's heartbeat."""
        return {"loop_lag_ms": round(self.loop_lag_ms, 1), "gpus": [asdict(gpu) for gpu in self.gpus]}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_loop(), name="loop lag")
            tasks.create_task(self._watch_gpus(), name="gpus")

    async def _watch_loop(self) -> None:
        observe = metrics.loop_lag.labels(self.stage).observe
        while True:
            # Not the loop's clock: uvloop's does not advance during a callback, and has a resolution of 1 ms.
            asked = time.monotonic() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            woke = time.monotonic()
            lag_s = max(0.0, woke - asked)
            observe(lag_s)
            self._lags.append((woke, lag_s))

    async def _watch_gpus(self) -> None:
        meter = GpuMeter()
        while True:
            reading = _in_thread(meter.read)
            try:
                async with asyncio.timeout(READ_TIMEOUT_S):
                    loads = await asyncio.shield(reading)
            except TimeoutError:
                log.warning("GPU driver timed out", waited_s=READ_TIMEOUT_S)
                self._show(())
                loads = await reading  # without a timeout: a second reading would hang like the first
            self._show(loads)
            await asyncio.sleep(self._gpus_every_s)

    def _show(self, loads: tuple[GpuLoad, ...]) -> None:
        """Set the gauges, and remove the series of values that are no longer reported."""
        now = {load.index: load for load in loads}
        for index in now.keys() | {load.index for load in self.gpus}:
            for gauge, name in _GAUGES:
                value = getattr(now.get(index), name, None)
                if value is not None:
                    gauge.labels(index).set(value)
                else:
                    with suppress(KeyError):  # there was no such series
                        gauge.remove(index)
        self.gpus = loads


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """Run `work`, which must not raise, in a daemon thread and return its future result.

    `asyncio.to_thread` would block the end of the loop and of the process while the thread hangs in a driver.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def deliver(value: T) -> None:
        if not result.done():
            result.set_result(value)

    def body() -> None:
        value = work()
        with suppress(RuntimeError):  # the loop has been closed
            loop.call_soon_threadsafe(deliver, value)

    threading.Thread(target=copy_context().run, args=(body,), name="gpus", daemon=True).start()
    return result
