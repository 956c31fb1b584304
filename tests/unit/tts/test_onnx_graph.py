"""Cutting an ONNX graph into parts that give together what the whole gives."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from services.tts.engines.onnx_graph import BadGraph, Graph


def model() -> bytes:
    """sum = a + b, product = sum * weight, result = product - a; `aside` is not needed for the result."""
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("a", "b", "result")]
    nodes = [
        helper.make_node("Add", ["a", "b"], ["sum"]),
        helper.make_node("Neg", ["sum"], ["aside"]),
        helper.make_node("Mul", ["sum", "weight"], ["product"]),
        helper.make_node("Sub", ["product", "a"], ["result"]),
    ]
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [1], [3.0])
    graph = helper.make_graph(nodes, "test", tensors[:2], tensors[2:], [weight])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8, producer_name="x" * 300)
    return made.SerializeToString()


def run(part: bytes, **given: list[float]) -> list[Any]:
    session = onnxruntime.InferenceSession(part, providers=["CPUExecutionProvider"])
    assert {one.name for one in session.get_inputs()} == set(given)
    return session.run(None, {name: np.array(values, np.float32) for name, values in given.items()})


def test_the_graph_is_read() -> None:
    graph = Graph(model())
    assert [node.op for node in graph.nodes] == ["Add", "Neg", "Mul", "Sub"]
    assert (graph.inputs, graph.outputs) == (["a", "b"], ["result"])
    assert graph.nodes[2].inputs == ("sum", "weight")


def test_the_parts_give_what_the_whole_gives() -> None:
    graph = Graph(model())
    (whole,) = run(model(), a=[1, 2], b=[3, 4])
    (total,) = run(graph.part(["sum"]), a=[1, 2], b=[3, 4])
    (result,) = run(graph.part(["result"], ["sum"]), a=[1, 2], sum=list(total))
    assert list(result) == list(whole) == [11, 16]


def test_a_part_has_only_what_it_needs() -> None:
    graph = Graph(model())
    part = onnx.load_from_string(graph.part(["product"], ["sum"]))
    assert [node.op_type for node in part.graph.node] == ["Mul"]
    assert [one.name for one in part.graph.initializer] == ["weight"]
    assert part.producer_name == "x" * 300
    assert not onnx.load_from_string(graph.part(["sum"])).graph.initializer


def test_what_lies_between_two_parts() -> None:
    graph = Graph(model())
    first = graph.needed(["sum"])
    assert first == {0}
    assert graph.between(first, graph.needed(["result"]) - first) == ["sum"]


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_file_that_is_cut_off_is_named_so(cut: int) -> None:
    with pytest.raises(BadGraph):
        Graph(model()[:-cut])


@given(st.binary(max_size=200))
def test_other_files_are_not_read_as_models(content: bytes) -> None:
    with pytest.raises(BadGraph):
        Graph(content)
