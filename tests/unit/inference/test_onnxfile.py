from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from dicomnode.inference import onnxfile
from tests.unit.inference.models import failing_model, tiny_model

OUTSIDE = "a tensor is kept outside the file"
FOREIGN = "it uses operators that are not of the ONNX standard"
NONE = "this is no ONNX file"


def _external() -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weights")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/passwd"
    return tensor


def _model(graph: onnx.GraphProto, *domains: str) -> onnx.ModelProto:
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(domain, 17) for domain in domains or ("",)])


def _graph(nodes: list[onnx.NodeProto] | None = None, tensors: list[TensorProto] | None = None) -> onnx.GraphProto:
    return helper.make_graph(nodes or [], "g", [], [], tensors or [])


def test_takes_whole_models_of_standard_operators() -> None:
    assert onnxfile.problems(tiny_model()) == ()
    assert onnxfile.problems(failing_model()) == ()
    assert onnxfile.problems(_model(_graph(), "", "ai.onnx").SerializeToString()) == ()


def test_refuses_tensors_outside_wherever_they_stand() -> None:
    constant = helper.make_node("Constant", [], ["c"])
    constant.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1), "t")))
    constant.attribute[0].t.CopyFrom(_external())
    branch = helper.make_node("If", ["b"], ["c"], then_branch=_graph([constant]), else_branch=_graph())
    sparse = onnx.SparseTensorProto()
    sparse.values.CopyFrom(_external())
    with_sparse = _graph()
    with_sparse.sparse_initializer.append(sparse)
    in_function = _model(_graph())
    in_function.functions.append(helper.make_function("", "f", [], ["c"], [constant], [helper.make_opsetid("", 17)]))
    for model in (
        _model(_graph(tensors=[_external()])),
        _model(_graph([constant])),
        _model(_graph([branch])),
        _model(with_sparse),
        in_function,
    ):
        assert onnxfile.problems(model.SerializeToString()) == (OUTSIDE,)


def test_refuses_external_data_without_the_mark_that_announces_it() -> None:
    tensor = _external()
    tensor.ClearField("data_location")
    assert onnxfile.problems(_model(_graph(tensors=[tensor])).SerializeToString()) == (OUTSIDE,)


def test_refuses_operators_of_others() -> None:
    assert onnxfile.problems(_model(_graph(), "", "com.example").SerializeToString()) == (FOREIGN,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ORTM",
        b"\x80",
        b"\x80" * 11 + b"\x01",
        b"\x00\x01",
        b"\x0b",
        b"\x38\x01",  # a graph that is a number
        b"\x3a\x7f\x00",  # a graph longer than the file
        b"\x3a\x00",  # a graph without operator sets
        b"\x42\x00",  # operator sets without a graph
        b"\x3d\x00\x00\x00\x00",
        b"\x09" + bytes(8),
        b"PK\x03\x04",
        b"ply-plan" * 100,
    ],
)
def test_refuses_what_is_none(data: bytes) -> None:
    assert onnxfile.problems(data) == (NONE,)


def test_refuses_graphs_within_graphs_without_end() -> None:
    graph = _graph()
    for _ in range(12):
        graph = _graph([helper.make_node("If", ["b"], ["c"], then_branch=graph)])
    assert onnxfile.problems(_model(graph).SerializeToString()) == (NONE,)


@given(st.binary(max_size=200))
def test_never_fails_on_garbage(data: bytes) -> None:
    assert isinstance(onnxfile.problems(data), tuple)


@given(st.data())
def test_never_fails_on_a_damaged_model(data: st.DataObject) -> None:
    whole = bytearray(tiny_model())
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    assert isinstance(onnxfile.problems(bytes(whole[:cut])), tuple)
