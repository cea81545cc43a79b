"""Work and traffic counted from ONNX graphs, against numbers reckoned by hand."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dicomnode.inference.package import load, shipped_models_folder
from tests.benchmarks.networks import UNet
from tests.benchmarks.roofline import WAYS, Layer, Network, batches, count, joined


def model(nodes: list[object], weights: dict[str, tuple[int, ...]], channels: int) -> bytes:
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", many, "z", "y", "x"])
        for name, many in (("volume", 1), ("logits", channels))
    ]
    kept = [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in weights.items()]
    graph = helper.make_graph(nodes, "made", ends[:1], ends[1:], kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    data: bytes = made.SerializeToString()
    return data


def test_a_convolution_between_the_ends() -> None:
    node = helper.make_node("Conv", ["volume", "w", "b"], ["logits"], pads=[1] * 6)
    found = count(model([node], {"w": (5, 1, 3, 3, 3), "b": (5,)}, 5), (2, 1, 4, 6, 8))
    voxels = 2 * 4 * 6 * 8
    assert found.flops == 2 * voxels * 5 * 27
    assert found.weights == 5 * 27 + 5
    assert found.ends == voxels + 5 * voxels
    (layer,) = found.layers
    assert (layer.inner, layer.outer) == (5 * 27 + 5, 6 * voxels)  # the network's own ends stay fp32
    assert found.bytes_at(2) == 2 * (5 * 27 + 5) + 4 * 6 * voxels


def test_strides_groups_and_transposed_ones() -> None:
    nodes = [
        helper.make_node("Conv", ["volume", "w0"], ["a"], pads=[1] * 6, strides=[2] * 3),
        helper.make_node("Conv", ["a", "w1"], ["b"], pads=[1] * 6, group=4),
        helper.make_node("InstanceNormalization", ["b", "s", "s"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("ConvTranspose", ["d", "w2"], ["logits"], strides=[2] * 3),
    ]
    weights = {"w0": (8, 1, 3, 3, 3), "w1": (8, 2, 3, 3, 3), "w2": (8, 3, 2, 2, 2), "s": (8,)}
    found = count(model(nodes, weights, 3), (1, 1, 8, 8, 8))
    coarse, fine = 4**3, 8**3
    down, grouped, norm, up = found.layers
    assert down.flops == 2 * coarse * 8 * 27
    assert grouped.flops == 2 * coarse * 8 * 2 * 27
    assert (norm.flops, norm.is_norm, norm.inner) == (0, True, 2 * 8 * coarse + 16)
    assert up.flops == 2 * coarse * 8 * 3 * 8  # each voxel of its input goes to eight of its output
    assert (up.inner, up.outer) == (8 * coarse + 8 * 3 * 8, 3 * fine)
    assert found.bytes_at(2) == sum(layer.bytes_at(2) for layer in (down, grouped, up))


def test_a_batch_reads_its_weights_once_and_a_run_anew() -> None:
    data = UNet((4, 8), 3).to_bytes()
    one, two = count(data, (1, 1, 16, 16, 16)), count(data, (2, 1, 16, 16, 16))
    assert two.flops == 2 * one.flops
    assert two.bytes_at(2) < 2 * one.bytes_at(2)
    again = joined([one, one])
    assert (again.flops, again.bytes_at(2), again.weights) == (2 * one.flops, 2 * one.bytes_at(2), 2 * one.weights)
    assert batches(10, 4) == [4, 4, 2]


def test_the_shipped_network_is_counted_whole() -> None:
    package = load(shipped_models_folder() / "ct-lung")
    found = count(package.model_bytes(), (1, 1, 160, 224, 224))
    assert len(found.layers) == 18
    assert found.ends == 4 * 160 * 224 * 224
    assert found.flops > 2 * found.weights  # every weight meets many voxels


def test_the_least_time_is_that_of_the_narrower_of_the_two() -> None:
    layers = (
        Layer(name="work", operator="Conv", flops=1000, inner=10, outer=0),
        Layer(name="traffic", operator="Conv", flops=10, inner=400, outer=50),
        Layer(name="norm", operator="InstanceNormalization", flops=0, inner=300, outer=0),
    )
    network = Network(layers=layers, weights=20, ends=60)
    found = network.least_seconds(100.0, 200.0, 2)
    assert list(found) == list(WAYS)
    assert found["as one piece"] == pytest.approx(1010 / 100)
    assert found["layer by layer"] == pytest.approx(1000 / 100 + (800 + 200) / 200)
    assert found["layer by layer, norms too"] == pytest.approx(15 + 600 / 200)
    narrow = network.least_seconds(1e9, 200.0, 2)
    assert narrow["as one piece"] == pytest.approx((2 * 20 + 4 * 60) / 200)


def test_a_shape_that_nobody_knows_is_said() -> None:
    nodes = [
        helper.make_node("Abs", ["volume"], ["a"]),
        helper.make_node("Shape", ["a"], ["s"]),
        helper.make_node("ReduceMax", ["a"], ["most"], keepdims=0),
        helper.make_node("Cast", ["most"], ["one"], to=TensorProto.INT64),
        helper.make_node("Add", ["s", "one"], ["t"]),
        helper.make_node("Reshape", ["a", "t"], ["b"]),
        helper.make_node("Conv", ["b", "w"], ["logits"]),
    ]
    with pytest.raises(ValueError, match="is not known"):
        count(model(nodes, {"w": (3, 1, 1, 1, 1)}, 3), (1, 1, 4, 4, 4))
