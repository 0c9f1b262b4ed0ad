"""The shapes of all values in a graph, some of which the graph computes itself.

ONNX infers shapes, and can follow integers that the graph computes, but not through a division, and
without any bound on how many they become. So they are computed here, and it is told of them.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from micronet_search.scoring.graphs.file import attributes, operator

MAX_LENGTH = 64
"""The most integers in a list from which a shape is computed."""
MAX_PASSES = 50
"""How often shapes are inferred, each time with the integers that follow from those before."""

_KINDS = {TensorProto.INT32: np.int32, TensorProto.INT64: np.int64}

Integers = np.ndarray[Any, np.dtype[np.integer[Any]]]
Kinds = dict[str, int]
Shapes = dict[str, tuple[int, ...]]


def infer(model: ModelProto) -> tuple[Kinds, Shapes]:
    """Returns the types and, where they are known, the shapes of all values of a checked model.

    Nodes that compute integers of a shape are replaced by these.
    """
    for _ in range(MAX_PASSES):
        kinds, shapes = _inferred(model)
        outputs = (name for node in model.graph.node for name in node.output if name)
        if all(name in shapes for name in outputs) or not _fold(model.graph, shapes):
            break
    return kinds, shapes


def _inferred(model: ModelProto) -> tuple[Kinds, Shapes]:
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    kinds = {t.name: t.data_type for t in graph.initializer}
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        kind = value.type.tensor_type
        kinds[value.name] = kind.elem_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
    return kinds, shapes


def _fold(graph: GraphProto, shapes: Shapes) -> bool:
    """Puts initialisers in the place of nodes that compute few integers; returns whether any."""
    known = {
        t.name: numpy_helper.to_array(t)
        for t in graph.initializer
        if t.data_type in _KINDS and len(t.dims) < 2 and sum(t.dims) <= MAX_LENGTH
    }
    nodes, count = [], len(graph.initializer)
    for node in graph.node:
        found = _computed(node, known, shapes)
        if found is None or found.ndim > 1 or found.size > MAX_LENGTH:
            nodes.append(node)
        else:
            known[node.output[0]] = found
            graph.initializer.append(numpy_helper.from_array(found, node.output[0]))
    del graph.node[:]
    graph.node.extend(nodes)
    return len(graph.initializer) > count


def _computed(node: NodeProto, known: Mapping[str, Integers], shapes: Shapes) -> Integers | None:
    """Returns the integers that a node puts out, if they are known and it is one of a few."""
    name, given = operator(node), attributes(node)
    if name == "Shape" and node.input[0] in shapes:
        shape = np.array(shapes[node.input[0]], np.int64)
        return shape[given.get("start", 0) : given.get("end")]
    inputs = [known[each] for each in node.input if each in known]
    if not inputs or len(inputs) < len([*filter(None, node.input)]):
        return None
    if name == "Cast" and given["to"] in _KINDS:
        return inputs[0].astype(_KINDS[given["to"]])
    try:
        return np.asarray(_COMPUTE[name](inputs)) if name in _COMPUTE else None
    except (ArithmeticError, LookupError, ValueError):
        return None


def _divide(inputs: Sequence[Integers]) -> Any:
    if not inputs[1].all():
        raise ZeroDivisionError
    return (inputs[0] // inputs[1]) + ((inputs[0] % inputs[1] != 0) & (inputs[0] * inputs[1] < 0))


def _unsqueeze(inputs: Sequence[Integers]) -> Any:
    if inputs[0].ndim:
        raise ValueError("no single integer")
    return inputs[0].reshape(1)


def _slice(inputs: Sequence[Integers]) -> Any:
    start, end = int(inputs[1].item()), int(inputs[2].item())
    return inputs[0][start : end : int(inputs[4].item()) if len(inputs) > 4 else 1]


_COMPUTE: Mapping[str, Callable[[Sequence[Integers]], Any]] = {
    "Identity": lambda inputs: inputs[0],
    "Unsqueeze": _unsqueeze,
    "Squeeze": lambda inputs: inputs[0].reshape(()),
    "Concat": np.concatenate,
    "Gather": lambda inputs: inputs[0][inputs[1]],
    "Slice": _slice,
    "Add": lambda inputs: inputs[0] + inputs[1],
    "Sub": lambda inputs: inputs[0] - inputs[1],
    "Mul": lambda inputs: inputs[0] * inputs[1],
    "Div": _divide,
}
"""What operators make of lists of integers, and of single ones."""
