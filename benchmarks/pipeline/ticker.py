"""A steady clock for the callers, more precise than an event loop's timers.

uvloop and epoll round timers to a millisecond: a hundred callers would speak in bursts. On Linux a timer
of the kernel ticks through a file descriptor; elsewhere the loop's own timers have to do.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from time import monotonic_ns

CLOCK_MONOTONIC = 1
TFD_TIMER_ABSTIME = 1
TFD_NONBLOCK = os.O_NONBLOCK


class _Itimerspec(ctypes.Structure):
    _fields_ = [(name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns")]


class Ticker:
    """Calls `on_tick(n)` when n more ticks are due; tick k is due at `start_ns + k * interval_ns` (monotonic)."""

    def __init__(self, interval_ns: int, on_tick: Callable[[int], None]) -> None:
        self.interval_ns = interval_ns
        self.start_ns = monotonic_ns() + 10_000_000
        self._on_tick = on_tick
        self._loop = asyncio.get_running_loop()
        self._ticks = 0
        self._timer: asyncio.TimerHandle | None = None
        self._descriptor = -1
        if sys.platform == "linux":
            self._start_kernel_timer()
        else:
            self._wait()

    def due_ns(self, tick: int) -> int:
        """When this tick was due, counted from 0; monotonic clock."""
        return self.start_ns + tick * self.interval_ns

    def close(self) -> None:
        if self._timer:
            self._timer.cancel()
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _start_kernel_timer(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)  # `os.timerfd_create` came only with Python 3.13
        self._descriptor = libc.timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK)
        spec = _Itimerspec(*divmod(self.interval_ns, 10**9), *divmod(self.start_ns, 10**9))
        if self._descriptor < 0 or libc.timerfd_settime(self._descriptor, TFD_TIMER_ABSTIME, ctypes.byref(spec), None):
            raise OSError(ctypes.get_errno(), "the kernel gives no timer")
        self._loop.add_reader(self._descriptor, self._read)

    def _read(self) -> None:
        try:
            due = int.from_bytes(os.read(self._descriptor, 8), sys.byteorder)
        except BlockingIOError:
            return
        self._on_tick(due)

    def _wait(self) -> None:
        due = (monotonic_ns() - self.start_ns) // self.interval_ns + 1 - self._ticks
        if due > 0:
            self._ticks += due
            self._on_tick(due)
        delay_ns = max(0, self.due_ns(self._ticks) - monotonic_ns())
        self._timer = self._loop.call_later(delay_ns / 1e9, self._wait)
