"""Where a model calculates, on machines that have other devices than this one."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.engines import devices
from shared.engines.devices import Device, device_kind, lost, open_device, quantized
from shared.engines.registry import UnknownEngine
from shared.settings import Settings


class Torch(SimpleNamespace):
    """As much of torch as choosing a device takes; it notes what it is set to."""

    float32, float16, bfloat16 = "float32", "float16", "bfloat16"

    def __init__(self, *, gpus: int = 0, mps: bool = False, bf16: bool = False) -> None:
        self.done: list[tuple[Any, ...]] = []
        self.cuda = SimpleNamespace(
            is_available=lambda: gpus > 0,
            device_count=lambda: gpus,
            is_bf16_supported=lambda: bf16,
            set_device=lambda index: self.done.append(("device", index)),
            set_per_process_memory_fraction=lambda share, index: self.done.append(("memory", share, index)),
        )
        self.backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps))
        self.cpu = SimpleNamespace(get_capabilities=lambda: {"avx512_bf16": bf16})

    def set_float32_matmul_precision(self, precision: str) -> None:
        self.done.append(("precision", precision))

    def set_num_threads(self, count: int) -> None:
        self.done.append(("threads", count))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`machine(gpus=…)`: from now on torch is on such a machine."""

    def put(**given: Any) -> Torch:
        torch = Torch(**given)
        monkeypatch.setitem(sys.modules, "torch", torch)  # type: ignore[arg-type]
        return torch

    return put


def settings(**given: Any) -> Settings:
    return Settings(**{"device": "auto", "dtype": "auto", **given})


@pytest.mark.parametrize(
    ("given", "name", "dtype"),
    [
        ({}, "cpu", "float32"),
        ({"bf16": True}, "cpu", "bfloat16"),
        ({"gpus": 2, "bf16": True}, "cuda:0", "bfloat16"),
        ({"gpus": 1}, "cuda:0", "float16"),
        ({"mps": True}, "mps", "float16"),
        ({"gpus": 1, "mps": True}, "cuda:0", "float16"),
    ],
)
def test_the_fastest_device_there_is_is_taken(machine: Any, given: dict[str, Any], name: str, dtype: str) -> None:
    machine(**given)
    assert open_device(settings()) == Device(name, dtype)
    assert device_kind(settings()) == name.partition(":")[0]


def test_a_setting_counts_for_more(machine: Any) -> None:
    torch = machine(gpus=2, bf16=True)
    assert open_device(settings(device="cpu", threads=3)) == Device("cpu", "bfloat16")
    assert open_device(settings(device="cpu", quantize="int8")).dtype == "float32"
    assert torch.done == [("threads", 3)]
    assert open_device(settings(device="cuda:1", dtype="float32", device_memory=0.5)) == Device("cuda:1", "float32")
    assert {("device", 1), ("memory", 0.5, 1)} <= set(torch.done)


@pytest.mark.parametrize(
    ("given", "device", "says"),
    [
        ({"gpus": 1}, "cuda:1", "has 1 CUDA devices"),
        ({}, "cuda", "has 0 CUDA devices"),
        ({}, "mps", "no such device"),
    ],
)
def test_a_device_that_is_not_there_is_refused_by_name(
    machine: Any, given: dict[str, Any], device: str, says: str
) -> None:
    machine(**given)
    with pytest.raises(UnknownEngine, match=rf"PARLEY_DEVICE='{device}'.*{says}"):
        open_device(settings(device=device))


def test_without_torch_there_is_a_cpu_and_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert device_kind(settings()) == "cpu"
    with pytest.raises(UnknownEngine, match="torch"):
        open_device(settings())


def test_a_machine_without_a_gpu_needs_no_torch_to_know_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert not devices._may_have_gpu(tmp_path)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(devices, "_may_have_gpu", lambda: False)
    assert device_kind(settings()) == "cpu"
    assert "torch" not in sys.modules


@pytest.mark.parametrize("name", ["nvidia0", "nvidiactl", "nvmap", "kfd", "dxg"])
def test_a_machine_that_may_have_a_gpu_asks_torch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    (tmp_path / name).touch()
    assert devices._may_have_gpu(tmp_path)


def test_eight_bits_are_for_a_cpu() -> None:
    model = object()
    assert quantized(model, settings(), Device("cuda:0", "float16")) is model
    with pytest.raises(UnknownEngine, match="the device is cuda:0"):
        quantized(model, settings(quantize="int8"), Device("cuda:0", "float16"))


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "no memory left"),
        (MemoryError(), "no memory left"),
        (RuntimeError("CUDA failed with error out of memory"), "no memory left"),
        (RuntimeError("CUDA failed with error unspecified launch failure"), "the device has failed"),
        (RuntimeError("CUDA error: device-side assert triggered"), "the device has failed"),
        (RuntimeError("MPS backend failed"), "the device has failed"),
    ],
)
def test_a_device_that_is_lost_ends_the_worker(error: BaseException, says: str) -> None:
    found = lost(error)
    assert found is not None
    assert says in str(found)
    assert "\n" not in str(found)


@pytest.mark.parametrize("error", [ValueError("CUDA error"), RuntimeError("shapes do not match"), KeyError("memory")])
def test_a_fault_of_the_input_does_not(error: BaseException) -> None:
    assert lost(error) is None
