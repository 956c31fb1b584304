"""What every process tells of itself: its metrics on a port, what runs in it, how late its event loop is, its GPUs."""

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
from prometheus_client import disable_created_metrics, start_http_server

from shared.distribution import version
from shared.observability import metrics
from shared.observability.gpu import GpuLoad, GpuMeter
from shared.settings import BadSettings, Settings

log = structlog.get_logger()

T = TypeVar("T")

LAG_EVERY_S = 0.25
LAG_KEPT_S = 5.0
GPUS_EVERY_S = 5.0
READ_TIMEOUT_S = 2.0
"""A reading takes milliseconds; a driver that lost its card may never answer."""

_GAUGES = (
    (metrics.gpu_utilization, "utilization"),
    (metrics.gpu_memory_used, "memory_used"),
    (metrics.gpu_memory_total, "memory_total"),
    (metrics.gpu_process_memory, "memory_process"),
    (metrics.gpu_power, "power_w"),
    (metrics.gpu_temperature, "temperature_c"),
)
"""Each gauge and what of a `GpuLoad` it shows."""


def serve_metrics(settings: Settings, stage: str) -> WSGIServer | None:
    """Offer the metrics of this process on an address of its own, in threads of its own; None: on none.

    Raises:
        BadSettings: the port is taken or not allowed, or the host is none of this machine's.
    """
    disable_created_metrics()  # type: ignore[no-untyped-call] # second series that nobody asks for
    port, host = settings.metrics_port, settings.metrics_host
    if not port:
        return None
    try:
        return start_http_server(port, host)[0]
    except (OSError, UnicodeError) as error:  # the second for a host that cannot be written as a name of the DNS
        if isinstance(error, OSError) and error.errno in (errno.EADDRINUSE, errno.EACCES):
            wrong = f"PARLEY_METRICS_PORT={port}: give each process a free port above 1023, or 0 for none"
        else:
            wrong = f"PARLEY_METRICS_HOST={host!r}: give an address of this machine; 0.0.0.0 is all of them"
        raise BadSettings(f"{wrong} (the metrics of {stage} cannot be served: {error})") from None


def tell_build(stage: str, engine: str) -> None:
    """Say what runs in this process, in place of what was said before."""
    metrics.build_info.clear()
    metrics.start_at_zero(stage)
    metrics.build_info.labels(stage, version(), platform.python_version(), engine).set(1)


class ProcessStats:
    """How this process is, measured all the time while `run` runs."""

    def __init__(self, stage: str, gpus_every_s: float = GPUS_EVERY_S) -> None:
        self.stage = stage
        self.gpus: tuple[GpuLoad, ...] = ()
        """As last read; empty: this process uses none, or they cannot be read."""
        self._gpus_every_s = gpus_every_s
        self._lags: deque[tuple[float, float]] = deque(maxlen=round(LAG_KEPT_S / LAG_EVERY_S))

    @property
    def loop_lag_ms(self) -> float:
        """How late the event loop woke up at the worst, in the last five seconds."""
        since = time.monotonic() - LAG_KEPT_S
        return 1000 * max((lag_s for woke, lag_s in self._lags if woke >= since), default=0.0)

    def load(self) -> dict[str, Any]:
        """The same in JSON's types, for who looks at all processes."""
        return {"loop_lag_ms": round(self.loop_lag_ms, 1), "gpus": [asdict(gpu) for gpu in self.gpus]}

    async def run(self) -> None:
        """Measure until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_loop(), name="loop lag")
            tasks.create_task(self._watch_gpus(), name="gpus")

    async def _watch_loop(self) -> None:
        observe = metrics.loop_lag.labels(self.stage).observe
        while True:
            # Not the loop's own clock: uvloop's stands still while a callback runs, and counts whole milliseconds.
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
                log.warning("the GPU's driver does not answer", waited_s=READ_TIMEOUT_S)
                self._show(())
                loads = await reading  # however long: a second question would hang like the first
            self._show(loads)
            await asyncio.sleep(self._gpus_every_s)

    def _show(self, loads: tuple[GpuLoad, ...]) -> None:
        """Keep them, and set the gauges; what is not told any more is no series any more."""
        now = {load.index: load for load in loads}
        for index in now.keys() | {load.index for load in self.gpus}:
            for gauge, name in _GAUGES:
                value = getattr(now.get(index), name, None)
                if value is not None:
                    gauge.labels(index).set(value)
                else:
                    with suppress(KeyError):  # it was none before
                        gauge.remove(index)
        self.gpus = loads


def _in_thread(work: Callable[[], T]) -> asyncio.Future[T]:
    """The result of `work`, which must not raise, done in a thread that the end of the process does not wait for.

    `asyncio.to_thread` would be waited for, at the end of the loop and of the process, and this may hang in a driver.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(value: T) -> None:
        if not result.done():
            result.set_result(value)

    def body() -> None:
        value = work()
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(tell, value)

    threading.Thread(target=copy_context().run, args=(body,), name="gpus", daemon=True).start()
    return result
