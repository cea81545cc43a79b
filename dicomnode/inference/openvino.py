"""OpenVINO on the CPU: the extra ``openvino``.

The only module that imports openvino; imported only where that engine is wanted and installed. It does so without the
library's telemetry, which would report to its maker over the network and leave files in the user's home.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Self

import numpy as np

from dicomnode.errors import ModelError
from dicomnode.heap import give_back
from dicomnode.inference.cores import usable_cores
from dicomnode.inference.engine import Batch, EngineInfo, Tensor, check_batch, checked_logits, tensor_problems
from dicomnode.inference.package import Package
from dicomnode.manifest import Manifest, ModelPackageErrors

_UNKNOWN: Final = (None,) * 5  # what the run will show
_NOT_LOADED: Final = ("network: the file cannot be loaded by OpenVINO",)


class OpenVinoEngine:
    """A network in OpenVINO, fp32, on a fixed number of CPU threads.

    Deterministic: one stream, one request, in fp32 also where the processor has bf16; equal input on the same machine
    with the same number of threads gives equal bits. Elements of a batch run one after the other.

    Parameters
    ----------
    model
        Bytes of the ONNX file, proved to be those of the manifest.
    threads
        CPU threads; 0: one per core that the process may use.

    Raises
    ------
    ModelPackageErrors
        If the file cannot be loaded or its tensors are not those of the manifest.
    """

    def __init__(self, model: bytes, manifest: Manifest, *, threads: int = 0) -> None:
        self._manifest = manifest
        self._threads = threads or usable_cores()
        self._compiled: Any = _compile(model, manifest, self._threads)
        self._request: Any = None

    @classmethod
    def from_package(cls, package: Package, *, threads: int = 0) -> Self:
        """Engine of a package."""
        return cls(package.model_bytes(), package.manifest, threads=threads)

    @property
    def info(self) -> EngineInfo:
        """Description of the engine."""
        version = str(_library().__version__).split("-")[0]
        return EngineInfo(name="openvino-cpu", precision="fp32", version=version, threads=self._threads)

    def run(self, batch: Batch) -> Batch:
        """Run the network; see `Engine.run`."""
        if self._compiled is None:
            raise ModelError("inference-failed", cause="engine-closed")
        check_batch(batch, self._manifest)
        parts = [self._run(item[None]) for item in batch]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, item: Batch) -> Batch:
        try:
            self._request = self._request or self._compiled.create_infer_request()
            self._request.infer([np.ascontiguousarray(item)], share_inputs=True)
            logits = np.array(self._request.get_output_tensor(0).data)  # the request keeps its own
        except Exception:  # noqa: BLE001 - openvino raises many kinds, and names tensors and paths
            self.rest()
            raise ModelError("inference-failed", cause="engine-failed") from None
        return checked_logits(logits, item, self._manifest)

    def rest(self) -> None:
        """Give back what only a study needs; see `Engine.rest`."""
        self._request = None
        if self._compiled is not None:
            self._compiled.release_memory()
        give_back()

    def close(self) -> None:
        """Give memory back; may be called again."""
        self._request = self._compiled = None


def _library() -> Any:
    """The library, which does without its telemetry where that cannot be imported."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def _compile(model: bytes, manifest: Manifest, threads: int) -> Any:
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",  # else bf16 or f16 where the processor has them
        "EXECUTION_MODE_HINT": "ACCURACY",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": "1",
        "INFERENCE_NUM_THREADS": str(threads),
        "ENABLE_CPU_PINNING": "NO",  # the node's other threads want the cores too
    }
    core = _library().Core()
    try:
        network = core.read_model(model)
        ends = _tensors(network.inputs), _tensors(network.outputs)
    except Exception:  # noqa: BLE001 - see OpenVinoEngine._run
        raise ModelPackageErrors(_NOT_LOADED) from None
    if problems := tensor_problems(*ends, manifest):
        raise ModelPackageErrors(problems)
    try:
        return core.compile_model(network, "CPU", settings)
    except Exception:  # noqa: BLE001 - see OpenVinoEngine._run
        raise ModelPackageErrors(_NOT_LOADED) from None


def _tensors(found: Any) -> list[Tensor]:
    return [
        Tensor(
            names=frozenset(one.get_names()),
            float32=one.get_element_type() == _library().Type.f32,
            shape=_UNKNOWN if one.partial_shape.rank.is_dynamic else tuple(map(_size, one.partial_shape)),
        )
        for one in found
    ]


def _size(dimension: Any) -> int | None:
    return int(dimension.get_length()) if dimension.is_static else None
