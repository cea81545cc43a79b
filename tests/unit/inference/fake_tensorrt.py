"""A library with TensorRT's interface whose engines run in ONNX Runtime on the host's memory, and fail where a test says so."""

from __future__ import annotations

import ctypes
import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx

from dicomnode.inference.onnx import OnnxEngine
from dicomnode.manifest import Manifest


class FakeTensorRt:
    """See the names of TensorRT's Python interface; `failing` holds those that answer with None, False or -1."""

    __version__ = "11.0.fake"
    BuilderFlag = SimpleNamespace(TF32=7)
    NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
    MemoryPoolType = SimpleNamespace(WORKSPACE=0)
    ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED=2)

    class ILogger:
        def __init__(self) -> None:
            pass

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.failing: set[str] = set()
        self.calls: list[str] = []
        self.spoil = lambda logits: logits

    def answer(self, name: str, value: Any, failed: Any = None) -> Any:
        self.calls.append(name)
        return failed if name in self.failing else value

    def Builder(self, logger: Any) -> Any:  # noqa: N802
        return self.answer("Builder", _Builder(self))

    def OnnxParser(self, network: Any, logger: Any) -> Any:  # noqa: N802
        return _Parser(self, network)

    def Runtime(self, logger: Any) -> Any:  # noqa: N802
        return self.answer("Runtime", _Runtime(self))


class _Builder:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt

    def create_network(self, flags: int) -> Any:
        assert flags == 2
        return self.trt.answer("create_network", _Network())

    def create_builder_config(self) -> Any:
        return _Config(self.trt)

    def create_optimization_profile(self) -> Any:
        shapes: list[Any] = []
        return SimpleNamespace(set_shape=lambda name, *three: shapes.extend((name, *three)), shapes=shapes)

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        content = {"model": network.model, "profiles": config.profiles, "flags": sorted(config.flags)}
        return self.trt.answer("build_serialized_network", pickle.dumps(content))


class _Network:
    model = b""
    num_inputs = num_outputs = 1

    def get_input(self, at: int) -> Any:
        source = onnx.load_model_from_string(self.model).graph.input[at]
        sizes = [one.dim_value or -1 for one in source.type.tensor_type.shape.dim]
        return SimpleNamespace(name=source.name, shape=sizes)


class _Parser:
    num_errors = 1

    def __init__(self, trt: FakeTensorRt, network: Any) -> None:
        self.trt, self.network = trt, network

    def parse(self, model: bytes) -> bool:
        self.network.model = model
        return bool(self.trt.answer("parse", True, False))


class _Config:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt, self.profiles, self.flags, self.timing = trt, [], {7}, b""

    def set_memory_pool_limit(self, pool: int, size: int) -> None:
        pass

    def set_flag(self, flag: int) -> None:
        self.flags.add(flag)

    def clear_flag(self, flag: int) -> None:
        self.flags.discard(flag)

    def create_timing_cache(self, data: bytes) -> Any:
        return self.trt.answer("create_timing_cache", SimpleNamespace(serialize=lambda: data + b"."))

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        return True

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile.shapes)
        return int(self.trt.answer("add_optimization_profile", len(self.profiles) - 1, -1))


class _Runtime:
    def __init__(self, trt: FakeTensorRt) -> None:
        self.trt = trt

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        return self.trt.answer("deserialize_cuda_engine", _Engine(self.trt, pickle.loads(data)))


class _Engine:
    def __init__(self, trt: FakeTensorRt, content: dict[str, Any]) -> None:
        self.trt, self.content = trt, content
        self.network = OnnxEngine(content["model"], trt.manifest, threads=1)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self.content["profiles"])

    def get_device_memory_size_for_profile_v2(self, profile: int) -> int:
        return 1000 * (profile + 1)

    def create_execution_context(self, strategy: int) -> Any:
        assert strategy == 2
        return self.trt.answer("create_execution_context", _Context(self.trt, self))


class _Context:
    def __init__(self, trt: FakeTensorRt, engine: _Engine) -> None:
        self.trt, self.engine = trt, engine
        self.addresses: dict[str, int] = {}
        self.memory = 0

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = self.engine.content["profiles"][profile]
        return bool(self.trt.answer("set_optimization_profile_async", True, False))

    def set_device_memory(self, address: int, size: int) -> None:
        self.memory = address

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        _, least, _, largest = self.profile
        fits = all(low <= size <= high for low, size, high in zip(least, shape, largest, strict=True))
        return bool(self.trt.answer("set_input_shape", fits, False))

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return bool(self.trt.answer("set_tensor_address", True, False))

    def execute_async_v3(self, stream: int) -> bool:
        if not self.trt.answer("execute_async_v3", bool(self.memory), False):
            return False
        network, patches = self.trt.manifest.network, self.shape[0]
        batch = _array(self.addresses[network.input], self.shape)
        logits = self.trt.spoil(self.engine.network.run(batch.copy()))
        _array(self.addresses[network.output], (patches, self.trt.manifest.channels, *self.shape[2:]))[:] = logits
        return True


def _array(address: int, shape: tuple[int, ...]) -> Any:
    count = int(np.prod(shape))
    return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(shape)
