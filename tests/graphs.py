"""Small ONNX files, written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str | None]

Array = np.ndarray[Any, Any]


def node(operator: str, inputs: str, output: str, **attributes: Any) -> NodeProto:
    """A node; its inputs are words, and `_` is one that is left out."""
    names = ["" if name == "_" else name for name in inputs.split()]
    return helper.make_node(operator, names, [output], **attributes)


def save(
    path: Path,
    nodes: Sequence[NodeProto],
    tensors: dict[str, Array] | None = None,
    shape: Shape = ("N", 3, 8, 8),
    kind: int = TensorProto.FLOAT,
    opset: int = 21,
    output: tuple[int, int] = (TensorProto.FLOAT, 2),
) -> Path:
    """A file of one input `x` and one output, the last node's, of a type and a rank."""
    inputs = [helper.make_tensor_value_info("x", kind, shape)]
    free = [f"out{i}" for i in range(output[1])]
    outputs = [helper.make_tensor_value_info(nodes[-1].output[0], output[0], free)]
    stored = [numpy_helper.from_array(values, name) for name, values in (tensors or {}).items()]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, stored)
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    version = helper.find_min_ir_version_for(opsets[:1])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=version), path)
    return path


def floats(*shape: int, seed: int = 0, kind: Any = np.float32) -> Array:
    """Normal values, none of which is zero or a number of half precision."""
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return values.astype(kind)
