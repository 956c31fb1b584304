"""Reads the load of the GPUs that this process uses, from NVML. It never imports torch itself."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from shared.observability import metrics

log = structlog.get_logger()

T = TypeVar("T")

LARGEST_EVENTS = 64
"""Maximum number of errors of one GPU per reading: a failing GPU may report without end."""


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """The load of one GPU. None: the card or its driver does not report the value."""

    index: str
    """NVML's index, regardless of CUDA_VISIBLE_DEVICES: `0`, or `0:2` for a MIG instance."""
    name: str | None
    utilization: float | None
    """Share of the latest sampling period in which a kernel ran, 0 to 1."""
    memory_used: int | None
    """Bytes, of all processes."""
    memory_total: int | None
    """Bytes."""
    memory_process: int
    """Bytes, of this process."""
    power_w: float | None
    temperature_c: float | None


@dataclass(frozen=True, slots=True)
class _Gpu:
    index: str
    handle: Any
    board: Any
    """Handle of the physical card, which reports power and temperature; `handle` itself without MIG."""
    events: Any | None
    """NVML event set for Xid errors; None if they cannot be registered."""


class GpuMeter:
    """Reads the GPUs of a process; one thread at a time. It opens NVML when torch first uses a GPU."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = False
        self._gpus: dict[str, _Gpu] = {}
        self._failed: set[str] = set()

    def read(self) -> tuple[GpuLoad, ...]:
        """Return the load of each GPU on which this process holds memory, and count its new Xid errors.

        It takes milliseconds, but a broken driver may block it for ever: call it in a thread. It raises nothing; GPUs
        that cannot be read are left out.
        """
        try:
            used = _used_devices()
            if not used or not self._open():
                return ()
            return tuple(load for uuid, reserved in used if (load := self._read_one(uuid, reserved)) is not None)
        except Exception:  # an incompatible library must not end the process
            if not self._absent:
                log.warning("GPU metrics disabled: reading failed", exc_info=True)
            self._absent = True
            return ()

    def _open(self) -> bool:
        if self._nvml is None and not self._absent:
            import pynvml  # type: ignore[import-untyped]

            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                self._absent = True
                log.debug("GPU metrics disabled: no NVML", reason=str(error))
            else:
                self._nvml = pynvml
        return not self._absent

    def _read_one(self, uuid: str, reserved: int) -> GpuLoad | None:
        nvml = self._nvml
        try:
            gpu = self._gpus.get(uuid)
            if gpu is None:
                gpu = self._gpus[uuid] = self._find(uuid)
            self._count_errors(gpu)
            load = self._load_of(gpu, reserved)
        except nvml.NVMLError as error:
            if uuid not in self._failed:
                self._failed.add(uuid)
                log.warning("GPU reading failed", uuid=uuid, reason=str(error))
                if isinstance(error, nvml.NVMLError_GpuIsLost):
                    # The driver of a lost GPU may never report the error itself.
                    metrics.gpu_xid_errors.labels(self._gpus[uuid].index if uuid in self._gpus else uuid).inc()
            return None
        self._failed.discard(uuid)
        return load

    def _find(self, uuid: str) -> _Gpu:
        """Find a GPU by its UUID. Raises NVMLError if it does not exist or is lost."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except nvml.NVMLError_NotFound:  # torch reports the UUID of a MIG instance without its prefix
            handle = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        board, index = handle, str(nvml.nvmlDeviceGetIndex(handle))
        if self._ask(lambda: nvml.nvmlDeviceIsMigDeviceHandle(handle)):
            board = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            index = f"{nvml.nvmlDeviceGetIndex(board)}:{index}"
        metrics.gpu_xid_errors.labels(index)  # starts at 0, so that `increase` sees the first error
        return _Gpu(index, handle, board, self._ask(lambda: self._register(board)))

    def _register(self, board: Any) -> Any:
        nvml = self._nvml
        events = nvml.nvmlEventSetCreate()
        try:
            nvml.nvmlDeviceRegisterEvents(board, nvml.nvmlEventTypeXidCriticalError, events)
        except nvml.NVMLError:
            nvml.nvmlEventSetFree(events)
            raise
        return events

    def _count_errors(self, gpu: _Gpu) -> None:
        nvml = self._nvml
        for _ in range(LARGEST_EVENTS if gpu.events is not None else 0):
            event = self._ask(lambda: nvml.nvmlEventSetWait(gpu.events, 0))  # times out when there are no more
            if event is None:
                return
            metrics.gpu_xid_errors.labels(gpu.index).inc()
            log.warning("GPU error reported", gpu=gpu.index, xid=int(event.eventData))

    def _load_of(self, gpu: _Gpu, reserved: int) -> GpuLoad:
        nvml = self._nvml
        rates = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(gpu.handle))
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(gpu.handle))
        power_mw = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(gpu.board))
        return GpuLoad(
            index=gpu.index,
            name=self._ask(lambda: nvml.nvmlDeviceGetName(gpu.handle)),
            utilization=None if rates is None else rates.gpu / 100,
            memory_used=None if memory is None else memory.used,
            memory_total=None if memory is None else memory.total,
            memory_process=self._memory_of_process(gpu, reserved),
            power_w=None if power_mw is None else power_mw / 1000,
            temperature_c=self._ask(lambda: float(nvml.nvmlDeviceGetTemperature(gpu.board, nvml.NVML_TEMPERATURE_GPU))),
        )

    def _memory_of_process(self, gpu: _Gpu, reserved: int) -> int:
        """Return the bytes in NVML's process list, which includes the CUDA context; at least what torch holds.

        In a container the list has the host's process ids, so this process may be missing or mistaken for another.
        """
        listed = self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)) or ()
        return max(reserved, sum(process.usedGpuMemory or 0 for process in listed if process.pid == os.getpid()))

    def _ask(self, call: Callable[[], T]) -> T | None:
        """Return NVML's answer; None if it does not support the query. Raises only NVMLError_GpuIsLost."""
        nvml = self._nvml
        try:
            return call()
        except nvml.NVMLError_GpuIsLost:
            raise
        except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
            return None


def _used_devices() -> list[tuple[str, int]]:
    """Return UUID and bytes for each device on which torch holds memory in this process."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)  # missing while another thread imports torch
    if cuda is None or not cuda.is_initialized():
        return []
    held = [(index, cuda.memory_reserved(index)) for index in range(cuda.device_count())]
    return [(str(cuda.get_device_properties(index).uuid), size) for index, size in held if size]
