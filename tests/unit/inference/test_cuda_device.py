"""The real device without one: over a library with pycuda's interface, every error of it becomes one of ours."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dicomnode.errors import ModelError
from dicomnode.inference import cuda_device, kernels
from dicomnode.inference.cuda_device import CudaDevice, devices

DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 07:15:39 UTC 2026\nGCC version: 12\n"


class Error(Exception):
    pass


class OutOfMemoryError(Error):
    pass


class Fake:
    """pycuda.driver, its memory being the host's; `failing` calls raise."""

    Error, MemoryError = Error, OutOfMemoryError
    device_attribute = SimpleNamespace(MULTIPROCESSOR_COUNT=16)
    event_flags = SimpleNamespace(DISABLE_TIMING=2)

    def __init__(self) -> None:
        self.failing: dict[str, type[Exception]] = {}
        self.calls: list[Any] = []
        self.memory: dict[int, np.ndarray[Any, Any]] = {}
        self.freed: list[int] = []

    def call(self, name: str, *facts: Any) -> None:
        self.calls.append((name, *facts))
        if name in self.failing:
            raise self.failing[name]

    def init(self) -> None:
        self.call("init")

    def Device(self, index: int) -> Any:  # noqa: N802
        self.call("Device")
        context = SimpleNamespace(
            push=lambda: self.call("push"), pop=lambda: self.call("pop"), detach=lambda: self.call("detach")
        )
        return SimpleNamespace(
            name=lambda: "NVIDIA H200 MIG 1g.18gb",
            compute_capability=lambda: (9, 0),
            get_attribute=lambda attribute: attribute,
            total_memory=lambda: 2**34,
            retain_primary_context=lambda: context,
        )

    def get_driver_version(self) -> int:
        return 13000

    def pagelocked_empty(self, count: int, kind: Any) -> Any:
        return np.empty(count, kind)

    def module_from_buffer(self, ptx: bytes) -> Any:
        assert ptx.endswith(b"\0")
        return SimpleNamespace(get_function=lambda name: _Function(self, name))

    def mem_get_info(self) -> tuple[int, int]:
        return 2**33, 2**34

    def mem_alloc(self, size: int) -> Any:
        self.call("mem_alloc", size)
        data = np.zeros(size, np.uint8)
        address = int(data.ctypes.data)
        self.memory[address] = data
        return _Allocation(self, address)

    def at(self, address: int, size: int) -> Any:
        start, data = next((at, data) for at, data in self.memory.items() if at <= address < at + len(data))
        return data[address - start : address - start + size]

    def memcpy_htod_async(self, target: int, source: Any, stream: Any) -> None:
        self.call("memcpy_htod_async")
        self.at(target, len(source))[:] = source

    def memcpy_dtoh_async(self, target: Any, source: int, stream: Any) -> None:
        self.call("memcpy_dtoh_async")
        target[:] = self.at(source, len(target))

    def memcpy_dtod_async(self, target: int, source: int, size: int, stream: Any) -> None:
        self.at(target, size)[:] = self.at(source, size)

    def memset_d8_async(self, target: int, value: int, count: int, stream: Any) -> None:
        self.at(target, count)[:] = value

    def Stream(self) -> Any:  # noqa: N802
        return SimpleNamespace(
            handle=1, synchronize=lambda: self.call("synchronize"), wait_for_event=lambda event: self.call("wait")
        )

    def Event(self, flags: int) -> Any:  # noqa: N802
        return SimpleNamespace(record=lambda stream: None, synchronize=lambda: self.call("event"))


class _Allocation:
    def __init__(self, cuda: Fake, address: int) -> None:
        self.cuda, self.address = cuda, address

    def __int__(self) -> int:
        return self.address

    def free(self) -> None:
        self.cuda.freed.append(self.address)
        self.cuda.call("free")


class _Function:
    def __init__(self, cuda: Fake, name: str) -> None:
        self.cuda, self.name = cuda, name

    def prepare(self, types: str) -> None:
        assert types == kernels.KERNELS[self.name].types

    def prepared_async_call(self, grid: Any, block: Any, stream: Any, *arguments: Any) -> None:
        self.cuda.call("launch", self.name, grid, block, arguments)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Fake:
    fake = Fake()
    package = ModuleType("pycuda")
    package.driver = fake  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", fake)  # type: ignore[arg-type]
    (tmp_path / "version").write_text(DRIVER)
    monkeypatch.setattr(cuda_device, "_DRIVER", tmp_path / "version")
    return fake


def cause(error: pytest.ExceptionInfo[ModelError]) -> Any:
    return error.value.facts["cause"]


def test_facts_hold_what_an_engine_depends_on(cuda: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    facts = CudaDevice().facts
    assert (facts.name, facts.capability, facts.multiprocessors) == ("NVIDIA H200 MIG 1g.18gb", (9, 0), 16)
    assert (facts.mig_profile, facts.driver, facts.memory_bytes) == ("1g.18gb", "13000-580.65.06", 2**34)
    monkeypatch.setattr(cuda_device, "_DRIVER", tmp_path / "none")
    assert CudaDevice().facts.driver == "13000"


@pytest.mark.parametrize("size", [5, 16 * 1024 * 1024, 50_000_000])
def test_copies_go_through_pinned_memory_piece_by_piece(cuda: Fake, size: int) -> None:
    device = CudaDevice()
    stream, buffer = device.stream(), device.allocate(size)
    values = np.random.default_rng(1).integers(0, 256, size).astype(np.uint8)
    device.upload(values, buffer, stream)
    found = np.zeros(size, np.uint8)
    device.download(buffer, found, stream)
    assert np.array_equal(found, values)
    pieces = -(-size // (16 * 1024 * 1024))
    assert [name for name, *_ in cuda.calls].count("memcpy_htod_async") == pieces
    assert [name for name, *_ in cuda.calls].count("memcpy_dtoh_async") == pieces


def test_a_launch_covers_its_elements_with_the_widths_of_the_parameters(cuda: Fake) -> None:
    device = CudaDevice()
    buffer, stream = device.allocate(100), device.stream()
    device.launch("agree", 1000, [buffer, buffer.part(4), 2, 3, 10, 1.0], stream)
    device.launch("argmax", 10**9, [buffer, buffer, 2, 3, 10], stream)
    (_, name, grid, block, arguments), (_, _, large, _, _) = [call for call in cuda.calls if call[0] == "launch"]
    assert (name, grid, block, large) == ("agree", (4, 1, 1), (256, 1, 1), (256, 1, 1))
    assert [type(one) for one in arguments] == [np.intp, np.intp, np.int32, np.int64, np.int64, np.float32]
    assert arguments[1] == arguments[0] + 4


@pytest.mark.parametrize(("error", "expected"), [(OutOfMemoryError, "device-out-of-memory"), (Error, "device-failed")])
def test_errors_become_ours(cuda: Fake, error: type[Exception], expected: str) -> None:
    device = CudaDevice()
    cuda.failing["mem_alloc"] = error
    with pytest.raises(ModelError) as caught:
        device.allocate(10)
    assert cause(caught) == expected


def test_without_a_driver_or_the_library_it_says_so(cuda: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda.failing["init"] = Error
    with pytest.raises(ModelError) as caught:
        devices()
    assert cause(caught) == "device-failed"
    monkeypatch.setitem(sys.modules, "pycuda", None)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pycuda.driver", None)  # type: ignore[arg-type]
    with pytest.raises(ModelError) as caught:
        CudaDevice()
    assert cause(caught) == "pycuda-missing"


def test_a_broken_device_is_left_without_a_word(cuda: Fake) -> None:
    device = CudaDevice()
    one, _ = device.allocate(10), device.allocate(20)
    cuda.failing = {"free": Error, "pop": Error, "detach": Error}
    device.release(one)
    device.close()
    assert len(cuda.freed) == 2
    assert [name for name, *_ in cuda.calls][-2:] == ["pop", "detach"]
    with pytest.raises(ModelError):
        device.synchronise(device.stream())


def test_a_device_that_fails_to_open_leaves_no_context_behind(cuda: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(ptx: bytes) -> Any:
        raise Error

    monkeypatch.setattr(cuda, "module_from_buffer", broken)
    with pytest.raises(ModelError) as caught:
        CudaDevice()
    assert cause(caught) == "device-failed"
    assert [name for name, *_ in cuda.calls][-2:] == ["pop", "detach"]
