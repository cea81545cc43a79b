"""Where engines come from: the sealed cache, else they are derived, built, held to the reference, and then kept.

May live here: that order, and which precision is taken where the site leaves it to the node. May not: CUDA, or how any
of the steps is done.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dicomnode.errors import ModelError
from dicomnode.inference import precision as precisions
from dicomnode.inference import tensorrt
from dicomnode.inference.device import Device
from dicomnode.inference.engine import Engine
from dicomnode.inference.engine_cache import EngineCache, EngineKey
from dicomnode.inference.golden import Verdict
from dicomnode.inference.gpu_engine import GpuEngine, verify
from dicomnode.inference.package import Package
from dicomnode.inference.tensorrt import TensorRtNetwork

#: Precisions, the quickest first, where the site leaves the choice to the node: the first that may serve.
AUTOMATIC: Final = ("fp16", "tf32", "fp32")
#: Patches of one run: more gain little, and take memory.
BATCH: Final = 4
#: Causes for which another precision, or none, is tried: the others are the device's, and stay.
_ANOTHER_MAY_DO: Final = frozenset(
    {
        "precision-not-derivable",
        "onnx-missing",
        "tensorrt-parse",
        "tensorrt-build",
        "tensorrt-load",
        "engine-not-verified",
        "output-not-finite",
    }
)
#: Causes for which patches that run alone may do.
_ALONE_IT_MAY_DO: Final = frozenset({"tensorrt-batch-fixed", "device-out-of-memory"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Sourced:
    """A network on its device.

    Attributes
    ----------
    verdict
        How it was judged; None: it came from the cache, where nothing is kept that may not serve.
    """

    network: TensorRtNetwork
    verdict: Verdict | None


class EngineSource:
    """Engines of one package for one device.

    Parameters
    ----------
    name
        Module of the library.
    reference
        Makes the package's engine on the CPU; asked only where something was built.
    batch
        Most patches of one run.
    """

    def __init__(
        self,
        package: Package,
        device: Device,
        cache: EngineCache,
        *,
        name: str,
        reference: Callable[[], Engine],
        batch: int = BATCH,
    ) -> None:
        self._package, self._device, self._cache, self._name = package, device, cache, name
        self._trt: Any = tensorrt.library(name)
        self._reference = reference
        self._batch = batch
        self._model = package.model_bytes()

    def candidates(self, wish: str) -> tuple[str, ...]:
        """Precisions to try, for a precision or ``auto``: a file that quantises says its own."""
        if wish != "auto":
            return (wish,)
        try:
            native = precisions.native_precision(self._model)
        except ModelError:  # without the library onnx nothing can be derived either
            return AUTOMATIC[1:]
        return AUTOMATIC if native == "fp32" else (native,)

    def network(self, wish: str) -> Sourced:
        """The first of the candidates that may serve.

        Raises
        ------
        ModelError
            ``inference-failed``, with the cause of the last that was tried; ``engine-not-verified`` where the golden
            input spoke against it.
        """
        last = ModelError("inference-failed", cause="tensorrt-build")
        for precision in self.candidates(wish):
            for batch in dict.fromkeys((self._batch, 1)):
                try:
                    return self._of(precision, batch)
                except ModelError as error:
                    last = error
                    if error.facts.get("cause") not in _ANOTHER_MAY_DO | _ALONE_IT_MAY_DO:
                        raise
        raise last

    def key(self, precision: str, model: bytes, batch: int) -> EngineKey:
        """What an engine depends on."""
        shapes = tensorrt.profiles(self._package.manifest, batch)
        return EngineKey(
            model_sha256=self._package.manifest.network.sha256,
            derived_sha256=hashlib.sha256(model).hexdigest(),
            recipe=f"{precisions.RECIPE}.{tensorrt.RECIPE}",
            precision=precision,
            library=self._name,
            library_version=str(self._trt.__version__),
            device=self._device.facts,
            profile=tuple(one for shape in shapes for one in (shape.least, shape.best, shape.largest)),
            flags=("tf32",) if precision == "tf32" else (),
        )

    def _of(self, precision: str, batch: int) -> Sourced:
        model = precisions.derive(self._model, precision) if precision in precisions.HALVES else self._model
        key = self.key(precision, model, batch)
        cached = self._cached(key, batch)
        if cached is not None:
            return cached
        with self._cache.building(key):
            return self._cached(key, batch) or self._build(key, model, batch)

    def _cached(self, key: EngineKey, batch: int) -> Sourced | None:
        engine = self._cache.engine(key)
        if engine is None:
            return None
        try:
            return Sourced(network=self._load(engine, key, batch), verdict=None)
        except ModelError as error:
            if error.facts.get("cause") != "tensorrt-load":
                raise
            self._cache.drop(key)
            return None

    def _build(self, key: EngineKey, model: bytes, batch: int) -> Sourced:
        shapes = tensorrt.profiles(self._package.manifest, batch)
        built = tensorrt.build(self._trt, model, shapes, tf32=key.precision == "tf32", timing=self._cache.timing(key))
        if built.timing:
            self._cache.keep_timing(key, built.timing)
        network = self._load(built.engine, key, batch)
        try:
            verdict = self._judge(network)
            self._cache.keep_engine(key, built.engine)
        except BaseException:
            network.close()
            raise
        return Sourced(network=network, verdict=verdict)

    def _judge(self, network: TensorRtNetwork) -> Verdict:
        """The verdict on a network that may serve."""
        reference, manifest = self._reference(), self._package.manifest
        try:
            verdict = verify(GpuEngine(self._device, network, manifest), reference, manifest)
        finally:
            reference.close()
        if not verdict.may_serve:
            raise ModelError("inference-failed", cause="engine-not-verified")
        return verdict

    def _load(self, engine: bytes, key: EngineKey, batch: int) -> TensorRtNetwork:
        return TensorRtNetwork(
            self._trt,
            engine,
            self._package.manifest,
            self._device,
            name=self._name,
            precision=key.precision,
            batch=batch,
        )
