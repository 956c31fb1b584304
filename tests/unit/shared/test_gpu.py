"""Reading GPUs through NVML: the real library, and a fake with answers that were seen from drivers and cards."""

import os
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pynvml  # type: ignore[import-untyped]
import pytest
from structlog.testing import capture_logs

from shared.observability import metrics
from shared.observability.gpu import LARGEST_EVENTS, GpuLoad, GpuMeter

GIB = 2**30


def torch_with(monkeypatch: pytest.MonkeyPatch, reserved: dict[str, int], *, initialized: bool = True) -> None:
    """A fake torch with memory on GPUs: UUIDs and bytes."""
    uuids = list(reserved)
    cuda = SimpleNamespace(
        is_initialized=lambda: initialized,
        device_count=lambda: len(uuids),
        memory_reserved=lambda index: reserved[uuids[index]],
        get_device_properties=lambda index: SimpleNamespace(uuid=uuids[index]),
    )
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))


class Driver:
    """A fake NVML. GPUs are named by UUID; `broken` maps functions to error codes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cards: list[str]) -> None:
        self.cards = cards
        self.opened = 0
        self.broken: dict[str, int] = {}
        self.processes: list[tuple[int, int | None]] = []
        self.xids: list[int] = []
        self.freed = 0
        self._patch = monkeypatch
        answers: dict[str, Callable[..., Any]] = {
            "nvmlInit": self._open,
            "nvmlDeviceGetHandleByUUID": self._find,
            "nvmlDeviceGetIndex": lambda card: 0 if card.startswith("board") else self.cards.index(card),
            "nvmlDeviceIsMigDeviceHandle": lambda card: card.startswith("MIG-"),
            "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda card: f"board of {card}",
            "nvmlDeviceGetName": lambda card: f"Card {card}",
            "nvmlDeviceGetUtilizationRates": lambda card: SimpleNamespace(gpu=37, memory=5),
            "nvmlDeviceGetMemoryInfo": lambda card: SimpleNamespace(used=30 * GIB, total=80 * GIB, free=50 * GIB),
            "nvmlDeviceGetPowerUsage": lambda card: 250_500,
            "nvmlDeviceGetTemperature": lambda card, sensor: 61,
            "nvmlDeviceGetComputeRunningProcesses": lambda card: [
                SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self.processes
            ],
            "nvmlEventSetCreate": list,
            "nvmlDeviceRegisterEvents": lambda card, kinds, events: None,
            "nvmlEventSetFree": self._free,
            "nvmlEventSetWait": self._wait,
        }
        for name, answer in answers.items():
            self._answer(name, answer)

    def _answer(self, name: str, answer: Callable[..., Any]) -> None:
        def call(*args: Any) -> Any:
            if name in self.broken:
                raise pynvml.NVMLError(self.broken[name])
            return answer(*args)

        self._patch.setattr(pynvml, name, call)

    def _open(self) -> None:
        self.opened += 1

    def _find(self, uuid: str) -> str:
        if uuid not in self.cards:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return uuid

    def _free(self, events: object) -> None:
        self.freed += 1

    def _wait(self, events: object, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not self.xids:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT)
        return SimpleNamespace(eventData=self.xids.pop(0))

    def fall_off_the_bus(self) -> None:
        asked_of_a_card = [name for name in vars(pynvml) if name.startswith(("nvmlDeviceGet", "nvmlEventSetWait"))]
        self.broken = dict.fromkeys(asked_of_a_card, pynvml.NVML_ERROR_GPU_IS_LOST)
        for name in asked_of_a_card:
            self._answer(name, getattr(pynvml, name))


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    torch_with(monkeypatch, {"aaaa": 4 * GIB})
    metrics.gpu_xid_errors.clear()
    return Driver(monkeypatch, ["GPU-bbbb", "GPU-aaaa"])


def xids(gpu: str) -> float:
    return float(metrics.gpu_xid_errors.labels(gpu)._value.get())


def read_one(meter: GpuMeter) -> GpuLoad:
    (load,) = meter.read()
    return load


def test_a_gpu_reports_everything_under_its_nvml_index(driver: Driver) -> None:
    driver.processes = [(1, 9 * GIB), (os.getpid(), 5 * GIB)]
    assert GpuMeter().read() == (GpuLoad("1", "Card GPU-aaaa", 0.37, 30 * GIB, 80 * GIB, 5 * GIB, 250.5, 61.0),)


def test_nvml_is_opened_once(driver: Driver) -> None:
    meter = GpuMeter()
    assert meter.read() == meter.read() != ()
    assert driver.opened == 1


def test_only_devices_with_memory_of_this_process_are_read(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_with(monkeypatch, {"aaaa": 0, "bbbb": GIB})
    assert read_one(GpuMeter()).index == "0"
    torch_with(monkeypatch, {"aaaa": GIB, "bbbb": GIB})
    assert [load.index for load in GpuMeter().read()] == ["1", "0"]


def test_nvml_is_not_opened_before_torch_uses_a_gpu(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_with(monkeypatch, {"aaaa": GIB}, initialized=False)
    assert GpuMeter().read() == ()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())  # while another thread imports it
    assert GpuMeter().read() == ()
    monkeypatch.delitem(sys.modules, "torch")
    assert GpuMeter().read() == ()
    assert driver.opened == 0


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([], 4 * GIB),  # in a container the list is empty
        ([(os.getpid() + 1, 9 * GIB)], 4 * GIB),
        ([(os.getpid(), None)], 4 * GIB),  # the driver does not report the size
        ([(os.getpid(), GIB)], 4 * GIB),  # the host's process with the same pid
        ([(os.getpid(), 3 * GIB), (os.getpid(), 2 * GIB)], 5 * GIB),
    ],
)
def test_process_memory_is_torchs_if_nvml_does_not_list_the_process(
    driver: Driver, processes: list[tuple[int, int | None]], expected: int
) -> None:
    driver.processes = processes
    assert read_one(GpuMeter()).memory_process == expected


@pytest.mark.parametrize(
    "code", [pynvml.NVML_ERROR_NOT_SUPPORTED, pynvml.NVML_ERROR_NO_PERMISSION, pynvml.NVML_ERROR_UNKNOWN]
)
def test_unsupported_values_are_none(driver: Driver, code: int) -> None:
    queries = ("Name", "UtilizationRates", "MemoryInfo", "PowerUsage", "Temperature", "ComputeRunningProcesses")
    driver.broken = {f"nvmlDeviceGet{name}": code for name in queries} | {"nvmlDeviceIsMigDeviceHandle": code}
    assert GpuMeter().read() == (GpuLoad("1", None, None, None, None, 4 * GIB, None, None),)


def test_a_driver_that_lacks_a_function(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch(card: str) -> None:
        raise pynvml.NVMLLibraryMismatchError("use a versioned function")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", mismatch)
    assert read_one(GpuMeter()).memory_process == 4 * GIB


def test_a_mig_instance_has_its_own_memory_and_its_cards_temperature(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.cards = ["GPU-bbbb", "MIG-eeee", "MIG-aaaa"]
    heat = {"board of MIG-aaaa": 50}  # only the physical card reports it
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", lambda card, sensor: heat[card])
    load = read_one(GpuMeter())
    assert (load.index, load.name, load.temperature_c) == ("0:2", "Card MIG-aaaa", 50.0)


def test_xid_errors_are_counted_from_zero(driver: Driver) -> None:
    meter = GpuMeter()
    meter.read()
    assert ("1",) in metrics.gpu_xid_errors._metrics
    assert xids("1") == 0
    driver.xids = [13, 79]
    meter.read()
    meter.read()
    assert xids("1") == 2


def test_endless_errors_do_not_block_the_reading(driver: Driver) -> None:
    driver.xids = [48] * (LARGEST_EVENTS + 3)
    meter = GpuMeter()
    assert meter.read() != ()
    assert xids("1") == LARGEST_EVENTS


def test_the_load_is_read_without_support_for_error_events(driver: Driver) -> None:
    driver.broken = {"nvmlDeviceRegisterEvents": pynvml.NVML_ERROR_NOT_SUPPORTED}
    driver.xids = [79]
    assert GpuMeter().read() != ()
    assert xids("1") == 0
    assert driver.freed == 1


def test_a_lost_gpu_is_left_out_and_counted_once(driver: Driver) -> None:
    meter = GpuMeter()
    assert meter.read() != ()
    driver.fall_off_the_bus()
    assert meter.read() == meter.read() == ()
    assert xids("1") == 1
    driver.broken = {}
    assert meter.read() != ()


def test_a_lost_gpu_does_not_hide_the_other(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    torch_with(monkeypatch, {"gone": GIB, "aaaa": GIB})
    meter = GpuMeter()
    assert [load.index for load in meter.read()] == ["1"]
    assert [load.index for load in meter.read()] == ["1"]


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_DRIVER_NOT_LOADED, pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH])
def test_without_a_working_driver_nvml_is_tried_once(driver: Driver, code: int) -> None:
    driver.broken = {"nvmlInit": code}
    meter = GpuMeter()
    with capture_logs() as logs:
        assert meter.read() == ()
        driver.broken = {}
        assert meter.read() == ()
    assert driver.opened == 0
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("debug", "GPU metrics disabled: no NVML")]


def test_an_incompatible_torch_only_disables_the_metrics(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = SimpleNamespace(is_initialized=lambda: True, device_count=lambda: 1)
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    meter = GpuMeter()
    with capture_logs() as logs:
        assert meter.read() == meter.read() == ()
    assert [entry["event"] for entry in logs] == ["GPU metrics disabled: reading failed"]


def test_the_real_nvml_library_without_such_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a driver NVML cannot be opened; with one, it does not know the GPU."""
    torch_with(monkeypatch, {"01234567-89ab-cdef-0123-456789abcdef": GIB})
    meter = GpuMeter()
    assert meter.read() == meter.read() == ()
