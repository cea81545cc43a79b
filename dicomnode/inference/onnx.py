"""ONNX Runtime on the CPU.

The only module that imports onnxruntime, and it does so with its telemetry off: by default the library reports to its
maker over the network and leaves files in the user's cache.
"""

from __future__ import annotations

import os
from typing import Any, Final, Self

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read once, while the library is loaded
import onnxruntime

from dicomnode.errors import ModelError
from dicomnode.heap import give_back
from dicomnode.inference.cores import usable_cores
from dicomnode.inference.engine import Batch, EngineInfo, Tensor, check_batch, checked_logits, tensor_problems
from dicomnode.inference.package import Package
from dicomnode.manifest import Manifest, ModelPackageErrors

_FATAL_ONLY: Final = 4


class OnnxEngine:
    """A network in ONNX Runtime, fp32, on a fixed number of CPU threads.

    Deterministic: equal input on the same machine with the same number of threads gives equal bits. Elements of a
    batch run one after the other, so none depends on its neighbours and memory does not grow with the batch.

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
        self._session: Any = _open_session(model, self._threads)
        ends = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        if problems := tensor_problems(*ends, manifest):
            raise ModelPackageErrors(problems)
        self._options = onnxruntime.RunOptions()
        self._options.log_severity_level = _FATAL_ONLY

    @classmethod
    def from_package(cls, package: Package, *, threads: int = 0) -> Self:
        """Engine of a package."""
        return cls(package.model_bytes(), package.manifest, threads=threads)

    @property
    def info(self) -> EngineInfo:
        """Description of the engine."""
        version = str(onnxruntime.__version__)
        return EngineInfo(name="onnxruntime-cpu", precision="fp32", version=version, threads=self._threads)

    def run(self, batch: Batch) -> Batch:
        """Run the network; see `Engine.run`."""
        if self._session is None:
            raise ModelError("inference-failed", cause="engine-closed")
        check_batch(batch, self._manifest)
        network = self._manifest.network
        parts: list[Batch] = []
        for item in batch:
            try:
                (logits,) = self._session.run([network.output], {network.input: item[None]}, self._options)
            except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no common root, and name tensors and paths
                raise ModelError("inference-failed", cause="engine-failed") from None
            parts.append(checked_logits(logits, item[None], self._manifest))
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def rest(self) -> None:
        """Give back what the last study took; see `Engine.rest`."""
        give_back()

    def close(self) -> None:
        """Give memory back; may be called again."""
        self._session = None


def _open_session(model: bytes, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.enable_mem_pattern = False  # sizes differ from study to study
    options.enable_cpu_mem_arena = False  # which would keep the largest study's memory; no slower without
    options.log_severity_level = _FATAL_ONLY
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        onnxruntime.disable_telemetry_events()
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - see OnnxEngine.run
        raise ModelPackageErrors(("network: the file cannot be loaded by ONNX Runtime",)) from None


def _tensors(found: Any) -> list[Tensor]:
    return [
        Tensor(
            names=frozenset({one.name}),
            float32=one.type == "tensor(float)",
            shape=tuple(size if isinstance(size, int) else None for size in one.shape),
        )
        for one in found
    ]
