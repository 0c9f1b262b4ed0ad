"""What each operator of ONNX costs, and what is known of its output."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from micronet_search.network.tensors import Role
from micronet_search.scoring.graphs.file import attributes, operator
from micronet_search.scoring.graphs.graph import is_integer
from micronet_search.scoring.graphs.table import Table
from micronet_search.scoring.graphs.values import (
    Constant,
    Value,
    levels_to_bits,
    limits_of,
    number,
    on_grid,
)

Count = Callable[[Table, NodeProto], Value | None]
"""Counts a node that something of the image passes; returns nothing where its cost is not known."""

Storing = list[tuple[Role, Constant]]

_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def _moved(table: Table, node: NodeProto) -> Value:
    return table.merged(node)


def _compared(table: Table, node: NodeProto) -> Value:
    table.free[operator(node)] += 1
    return table.merged(node)


def _cast(table: Table, node: NodeProto) -> Value:
    found = table.merged(node)
    return replace(found, bits=min(found.bits, table.plain(node.output[0]).bits))


def _quantize(table: Table, node: NodeProto) -> Value:
    """A value that is rounded has the width of its integers, or what a clip before leaves of it.

    Its scale is that of the node which scales the integers again, where these two hardly differ.
    """
    again = _scaled_again(table, node)
    value, step, zero = table.value(node.input[0]), *_grid(table, again)
    names = tuple(name for name in again.input[1:3] if table.constant(name))
    table.input_scales |= dict.fromkeys(names)
    bits = _bits(table, node)
    if value.limits and (limits := on_grid(value.limits, step, zero)):
        bits = min(bits, levels_to_bits(*limits))
    return Value(bits, quantized=True, scales=(*value.scales, *names))


def _dequantize(table: Table, node: NodeProto) -> Value:
    value = table.value(node.input[0])
    return value if value.image else replace(value, grid=_grid(table, node))


def _scaled_again(table: Table, node: NodeProto) -> NodeProto:
    """Returns the node that alone scales the integers of a quantizer again, or the quantizer."""
    reader = table.graph.only_reader(node.output[0])
    if reader is None or reader.op_type != "DequantizeLinear":
        return node
    (before, _), (after, _) = _grid(table, node), _grid(table, reader)
    return reader if math.isclose(before, after, rel_tol=2**-11) else node


def _grid(table: Table, node: NodeProto) -> tuple[float, int]:
    """Returns the scale and the zero point of a quantizer, where it has one of each."""
    step, zero = (number(table.constant(name)) for name in (*node.input[1:3], "", "")[:2])
    return step or math.nan, int(zero or 0)


def _bits(table: Table, node: NodeProto) -> int:
    return table.plain(node.output[0]).bits


def _product(table: Table, node: NodeProto) -> Value | None:
    """A convolution or linear layer, if its weights are stored."""
    graph, output = table.graph, node.output[0]
    place = 0 if table.constant(node.input[0]) else 1
    weights = table.constant(node.input[place])
    bias = table.constant(node.input[2]) if len(node.input) > 2 else None
    if weights is None or (bias is None and any(node.input[2:])):
        return None
    shape, outputs = weights.array.shape, graph.elements(output)
    if not weights.array.size:
        raise ValueError(f"the weights of {operator(node)} are empty")
    if node.op_type == "Conv":
        macs = outputs * math.prod(shape[1:])
    elif node.op_type == "ConvTranspose":
        macs = graph.elements(node.input[0]) * math.prod(shape[1:])
    elif node.op_type == "Gemm":
        macs = outputs * shape[1 if attributes(node).get("transB") else 0]
    else:
        macs = outputs * shape[-1 if place == 0 else max(-2, -len(shape))]
    kind = "conv" if node.op_type.startswith("Conv") else "linear"
    stored: Storing = [("weight", weights)]
    if bias is not None:
        stored.append(("bias", bias))
    return table.add_row(node, kind, stored, macs=macs)


def _norm(table: Table, node: NodeProto) -> Value | None:
    """A batch norm keeps a factor and a summand for each channel."""
    known = [each for name in node.input[1:5] if (each := table.constant(name))]
    if len(known) < 4:
        return None
    factor, summand, mean, variance = (each.array.astype(np.float32) for each in known)
    with np.errstate(all="ignore"):
        factor = factor / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        summand = summand - mean * factor
    stored: Storing = [("weight", replace(known[0], array=factor))]
    stored.append(("bias", replace(known[1], array=summand)))
    return table.add_row(node, "norm", stored)


def _activation(kind: str) -> Count:
    return lambda table, node: table.add_row(node, kind)


def _rectified(table: Table, node: NodeProto) -> Value:
    """An integer that is cut off at a bound is the integer still, or the bound."""
    table.add_row(node, "relu")
    return replace(table.merged(node), image=False)


def _pool(table: Table, node: NodeProto) -> Value:
    graph, window = table.graph, math.prod(attributes(node).get("kernel_shape", ()))
    if node.op_type != "AveragePool":
        window = graph.elements(node.input[0]) // max(graph.elements(node.output[0]), 1)
    return table.add_row(node, "pool", window=window)


def _arithmetic(table: Table, node: NodeProto) -> Value | None:
    """A sum or a product, of two values or of one and a constant."""
    kind = "scale" if node.op_type in ("Mul", "Div") else "add"
    constants = [table.constant(name) for name in node.input]
    constant = next(filter(None, constants), None)
    if constant is None:
        return _gated(table, node) or table.add_row(node, kind)
    other = node.input[1 if constants[0] else 0]
    if table.value(other).image:
        return table.merged(node)
    if node.op_type == "Add" and _takes(table, other, constant):
        return table.complete_row(node, other, constant)
    role: Role = "weight" if kind == "scale" else "bias"
    return table.add_row(node, kind, [(role, constant)])


def _takes(table: Table, name: str, summand: Constant) -> bool:
    """Returns whether a row lacks only this summand for each channel."""
    row = table.rows.get(name)
    if row is None or row.kind not in ("conv", "linear", "scale"):
        return False
    if table.graph.only_reader(name) is None or any(t.role == "bias" for t in row.stored):
        return False
    channels = table.graph.shape(name)[1 if row.kind == "conv" else -1]
    return row.kind == "scale" or summand.array.size == channels


def _gated(table: Table, node: NodeProto) -> Value | None:
    """A value times its own sigmoid is a single activation."""
    if node.op_type != "Mul":
        return None
    for value, gate in (node.input, [*node.input][::-1]):
        behind = _behind(table, gate)
        maker = table.graph.makers.get(behind)
        if maker is None or maker.op_type not in ("Sigmoid", "HardSigmoid"):
            continue
        if _behind(table, maker.input[0]) != _behind(table, value) or behind not in table.rows:
            continue
        if table.graph.only_reader(behind):
            return table.add_row(node, "swish", also=table.rows.pop(behind).stored)
    return None


def _behind(table: Table, name: str) -> str:
    """Returns the name of a value before it was rounded."""
    while (maker := table.graph.makers.get(name)) and maker.op_type in _QUANTIZERS:
        name = maker.input[0]
    return name


def _clip(table: Table, node: NodeProto) -> Value:
    """A clip belongs to rounding, where its bounds are integers of it, or is an activation."""
    value, output = table.value(node.input[0]), node.output[0]
    limits = limits_of(node, [table.constant(name) for name in node.input])
    if limits and is_integer(table.graph.kinds[output]):
        return replace(value, bits=min(value.bits, levels_to_bits(*limits)))
    if limits and value.grid and (found := on_grid(limits, *value.grid)):
        return replace(value, bits=min(value.bits, levels_to_bits(*found)), grid=None)
    if limits and (quantizer := _quantizer_after(table, output)):
        found, bits = on_grid(limits, *_grid(table, quantizer)), _bits(table, quantizer)
        if found and levels_to_bits(*found) < bits:
            return replace(value, limits=limits)
    return _rectified(table, node)


def _bounded(table: Table, node: NodeProto) -> Value | None:
    """A bound below zero which the rounding after it has too belongs to that."""
    bound = next((each for each in map(table.constant, node.input) if each), None)
    if bound is None:
        return _compared(table, node)
    limit, quantizer = number(bound), _quantizer_after(table, node.output[0])
    if limit is not None and limit < 0 and quantizer and on_grid([limit], *_grid(table, quantizer)):
        return table.merged(node)
    return _rectified(table, node)


def _quantizer_after(table: Table, name: str) -> NodeProto | None:
    """Returns the node that rounds a value, at most clipped before, which nothing else reads."""
    while node := table.graph.only_reader(name):
        if node.op_type == "QuantizeLinear":
            return _scaled_again(table, node)
        if node.op_type not in ("Clip", "Max"):
            return None
        name = node.output[0]
    return None


OPERATORS: Mapping[str, Count] = {
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm", "MatMul"), _product),
    "BatchNormalization": _norm,
    **dict.fromkeys(("Relu", "LeakyRelu"), _rectified),
    **dict.fromkeys(("Sigmoid", "HardSigmoid"), _activation("sigmoid")),
    **dict.fromkeys(("HardSwish", "Swish"), _activation("swish")),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "ReduceMean"), _pool),
    **dict.fromkeys(("Add", "Sub", "Mul", "Div"), _arithmetic),
    "Clip": _clip,
    **dict.fromkeys(("Max", "Min"), _bounded),
    **dict.fromkeys(("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin"), _compared),
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), _compared),
    **dict.fromkeys(("QuantizeLinear", "DynamicQuantizeLinear"), _quantize),
    "DequantizeLinear": _dequantize,
    "Cast": _cast,
    **dict.fromkeys(
        ("Identity", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Concat"), _moved
    ),
    **dict.fromkeys(("Slice", "Split", "Pad", "Dropout", "Expand", "Gather", "Tile"), _moved),
    **dict.fromkeys(("DepthToSpace", "SpaceToDepth"), _moved),
}
"""The operators whose cost is known."""
