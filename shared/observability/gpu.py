"""How busy the GPUs are that this process uses, as NVML tells it. It looks at torch only where the process has it."""

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
"""Errors of one GPU that one reading takes up; a GPU in trouble reports without end."""


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """One GPU at one moment. None: the card, or its driver, does not tell it."""

    index: str
    """As NVML counts, whatever CUDA_VISIBLE_DEVICES says: `0`; of a MIG instance also its own: `0:2`."""
    name: str | None
    utilization: float | None
    """Share of the last moments in which anything ran, 0 to 1."""
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
    """What has the power supply and the thermometer: the card that a MIG instance is part of, or itself."""
    events: Any | None
    """A set of its own, which gets what the driver reports of it; None: it reports nothing here."""


class GpuMeter:
    """Reads them; one for each process, used by one thread at a time. NVML is opened when torch first has a GPU."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._absent = False
        self._gpus: dict[str, _Gpu] = {}
        self._failed: set[str] = set()

    def read(self) -> tuple[GpuLoad, ...]:
        """The load of each GPU that this process has memory on, and count what the driver reported of it.

        It takes milliseconds, or as long as a broken driver likes: call it in a thread. It raises nothing; a GPU that
        cannot be read is left out.
        """
        try:
            used = _used_devices()
            if not used or not self._open():
                return ()
            return tuple(load for uuid, reserved in used if (load := self._read_one(uuid, reserved)) is not None)
        except Exception:  # a library that changed costs the figures, never the process
            if not self._absent:
                log.warning("GPU load cannot be read", exc_info=True)
            self._absent = True
            return ()

    def _open(self) -> bool:
        if self._nvml is None and not self._absent:
            import pynvml  # type: ignore[import-untyped]

            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError as error:
                self._absent = True
                log.debug("no NVML: the load of the GPU is not known", reason=str(error))
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
                log.warning("a GPU cannot be read", uuid=uuid, reason=str(error))
                if isinstance(error, nvml.NVMLError_GpuIsLost):
                    # Its own report of that may never come: there is nobody left to make it.
                    metrics.gpu_xid_errors.labels(self._gpus[uuid].index if uuid in self._gpus else uuid).inc()
            return None
        self._failed.discard(uuid)
        return load

    def _find(self, uuid: str) -> _Gpu:
        """Raises NVMLError where there is no such GPU, or it is lost."""
        nvml = self._nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except nvml.NVMLError_NotFound:  # torch gives a part of a card in the same form
            handle = nvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")
        board, index = handle, str(nvml.nvmlDeviceGetIndex(handle))
        if self._ask(lambda: nvml.nvmlDeviceIsMigDeviceHandle(handle)):
            board = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle)
            index = f"{nvml.nvmlDeviceGetIndex(board)}:{index}"
        metrics.gpu_xid_errors.labels(index)  # at 0 from the beginning, else the first error would be no increase
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
            event = self._ask(lambda: nvml.nvmlEventSetWait(gpu.events, 0))  # a timeout where there are no more
            if event is None:
                return
            metrics.gpu_xid_errors.labels(gpu.index).inc()
            log.warning("the GPU's driver reports an error", gpu=gpu.index, xid=int(event.eventData))

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
        """Bytes by the list of NVML, which has the CUDA context, too; at least what torch holds.

        In a container the list has the host's numbers of processes: this one is not found, or is another.
        """
        listed = self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle)) or ()
        return max(reserved, sum(process.usedGpuMemory or 0 for process in listed if process.pid == os.getpid()))

    def _ask(self, call: Callable[[], T]) -> T | None:
        """What NVML answers, or None where it does not tell; raises only NVMLError_GpuIsLost."""
        nvml = self._nvml
        try:
            return call()
        except nvml.NVMLError_GpuIsLost:
            raise
        except (nvml.NVMLError, nvml.NVMLLibraryMismatchError):
            return None


def _used_devices() -> list[tuple[str, int]]:
    """Of each device that torch holds memory of in this process: its UUID and the bytes."""
    cuda = getattr(sys.modules.get("torch"), "cuda", None)  # another thread may just be importing it
    if cuda is None or not cuda.is_initialized():
        return []
    held = [(index, cuda.memory_reserved(index)) for index in range(cuda.device_count())]
    return [(str(cuda.get_device_properties(index).uuid), size) for index, size in held if size]
