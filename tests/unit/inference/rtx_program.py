"""Builds a network by TensorRT-RTX and prints how large it is, or why not: in a process of its own, for tests.

NVIDIA's libraries may end the process that they are loaded in. ``python -m tests.unit.inference.rtx_program NAME WISH``.
"""

from __future__ import annotations

import sys

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from dicomnode.errors import ModelError
from dicomnode.inference import package, precision, tensorrt
from dicomnode.inference.standin_device import StandInDevice
from dicomnode.manifest import Manifest
from tests.benchmarks.networks import UNet
from tests.unit.inference.models import tiny_manifest

QUANTISED = {"int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}


def quantised(kind: int) -> bytes:
    """One convolution whose input and weights are quantised (Q/DQ)."""
    weights = np.random.default_rng(1).normal(size=(3, 1, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["volume", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        helper.make_node("QuantizeLinear", ["weights", "weights.scale", "zero"], ["weights.q"]),
        helper.make_node("DequantizeLinear", ["weights.q", "weights.scale", "zero"], ["weights.d"]),
        helper.make_node("Conv", ["d", "weights.d"], ["logits"], pads=[1] * 6),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", channels, "z", "y", "x"])
        for name, channels in (("volume", 1), ("logits", 3))
    ]
    constants = [
        numpy_helper.from_array(weights, "weights"),
        numpy_helper.from_array(np.float32(0.01), "scale"),
        numpy_helper.from_array(np.float32(0.03), "weights.scale"),
        helper.make_tensor("zero", kind, [], b"\0", raw=True),
    ]
    graph = helper.make_graph(nodes, "quantised", ends[:1], ends[1:], constants)
    return bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9).SerializeToString()
    )


def network(name: str) -> tuple[bytes, Manifest]:
    """The file and manifest of a name: a shipped model, one like nnU-Net's, or one that quantises."""
    if name in QUANTISED:
        return quantised(QUANTISED[name]), tiny_manifest()
    if name == "unet":
        return UNet((8, 16, 32), 3).to_bytes(), tiny_manifest(
            lambda values: values["preprocess"].update(multiple_of=[4, 4, 4])
        )
    shipped = package.load(package.shipped_models_folder() / name)
    return shipped.model_bytes(), shipped.manifest


def main(name: str, wish: str) -> None:
    """Print the bytes of the engine and of what was measured, or the cause of a failure."""
    model, manifest = network(name)
    if wish in precision.HALVES:
        model = precision.derive(model, wish)
    if wish == "broken":
        model = model[:-1000]
    library = tensorrt.library("tensorrt_rtx")
    try:
        built = tensorrt.build(library, model, tensorrt.profiles(manifest, 4), tf32=wish == "tf32")
        if wish == "load":
            device = StandInDevice()
            tensorrt.TensorRtNetwork(
                library, built.engine, manifest, device, name="tensorrt_rtx", precision="fp32", batch=4
            )
    except ModelError as error:
        sys.stdout.write(f"{error.facts['cause']}\n")
    else:
        sys.stdout.write(f"{len(built.engine)} {len(built.timing)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
