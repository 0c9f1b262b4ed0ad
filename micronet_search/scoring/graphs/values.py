"""What is known of the values in an ONNX graph: constants to their last bit, others by width.

A width is that of the ONNX type, narrowed by a `Clip` between rounding and scaling, or by the key
`bits` of a `DequantizeLinear`'s metadata (or its documentation, before nodes had metadata), which
the constant must then keep to. The values alone do
not tell: weights of 8 bits may happen to fit 7, and those of 2 bits look like signs and zeros.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import NodeProto

from micronet_search.config.model import INTEGER
from micronet_search.scoring.graphs.file import attributes, printable
from micronet_search.scoring.graphs.graph import Array, Graph, is_integer, width

BITS = "bits"
"""The key under which a `DequantizeLinear` has the width of integers whose type is wider."""


@dataclass(frozen=True)
class Constant:
    """A constant of the graph, integers where it is dequantized.

    Attributes:
        array: Its values in their shape; `zero` is what stands for 0 among them.
        bits: Of an element.
        scales: The names of the tensors with its scales and zero points.
        source: The name of the tensor that is stored.
        rounded: Whether that has floats, which the graph rounds to integers.
    """

    array: Array
    bits: int
    source: str
    zero: Array | int = 0
    scales: tuple[str, ...] = ()
    rounded: bool = False

    @property
    def nonzeros(self) -> int:
        """The number of elements that are not zero."""
        return int(np.count_nonzero(self.array != self.zero))

    @property
    def is_integer(self) -> bool:
        """Whether it consists of scaled integers of 8 bits and fewer."""
        return bool(self.scales) and self.bits <= INTEGER


@dataclass(frozen=True)
class Value:
    """What passes through the network.

    Attributes:
        bits: The fewest that hold each of its elements.
        quantized: Whether it was rounded to integers.
        image: Whether it is the input, at most shifted and scaled.
        scales: The names of the tensors with the scales and zero points of its rounding.
        grid: The scale and the zero point of integers that were dequantized just now.
        limits: The bounds of a clip that belongs to the rounding which follows.
    """

    bits: int
    quantized: bool = False
    image: bool = False
    scales: tuple[str, ...] = ()
    grid: tuple[float, int] | None = None
    limits: tuple[float, float] | None = None

    @property
    def is_integer(self) -> bool:
        """Whether it consists of integers of 8 bits and fewer."""
        return self.quantized and self.bits <= INTEGER


def levels_to_bits(low: float, high: float) -> int:
    """Returns the bits that tell the integers from low to high apart."""
    return max(int(high) - int(low), 1).bit_length()


def on_grid(limits: Sequence[float], step: float, zero: int) -> tuple[int, ...] | None:
    """Returns limits as integers of a quantizer, unless one is none of its values."""
    found = [limit / step + zero for limit in limits] if step > 0 else [math.nan]
    if not all(math.isfinite(each) and abs(each - round(each)) < 1e-3 for each in found):
        return None
    return tuple(round(each) for each in found)


def number(constant: Constant | None) -> float | None:
    """Returns the value of a constant that is a single finite number."""
    if constant is None or constant.array.size != 1:
        return None
    found = float(constant.array.reshape(-1)[0])
    return found if math.isfinite(found) else None


def limits_of(node: NodeProto, inputs: Sequence[Constant | None]) -> tuple[float, float] | None:
    """Returns the bounds of a `Clip` that has both, and as constants."""
    given = attributes(node)
    older = given.get("min"), given.get("max")  # up to opset 10
    low, high = (number(inputs[i]) if len(inputs) > i else older[i - 1] for i in (1, 2))
    return None if low is None or high is None else (float(low), float(high))


Inputs = Sequence[Constant | None]


def _same(graph: Graph, node: NodeProto, inputs: Inputs) -> Constant:
    constant = inputs[0]
    assert constant is not None
    return replace(constant, array=constant.array.reshape(graph.shape(node.output[0])))


def _transpose(graph: Graph, node: NodeProto, inputs: Inputs) -> Constant:
    constant = inputs[0]
    assert constant is not None
    return replace(constant, array=constant.array.transpose(attributes(node).get("perm")))


def _cast(graph: Graph, node: NodeProto, inputs: Inputs) -> Constant:
    constant, kind = inputs[0], graph.kinds[node.output[0]]
    assert constant is not None
    if constant.scales or is_integer(kind) or width(kind) >= constant.bits:
        return constant
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    with np.errstate(over="ignore"):
        return replace(constant, array=constant.array.astype(dtype), bits=width(kind))


def _quantize(graph: Graph, node: NodeProto, inputs: Inputs) -> Constant:
    constant, kind = inputs[0], graph.kinds[node.output[0]]
    scale, zero = _parameters(node, inputs)
    assert constant is not None
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise ValueError(f"{printable(node.input[1])} is not positive, expected scales")
    found = constant.array.astype(np.float32) / scale
    if is_integer(kind):
        info: Any = ml_dtypes.iinfo
        limits = info(onnx.helper.tensor_dtype_to_np_dtype(kind))
        found = np.clip(np.rint(found) + zero, int(limits.min), int(limits.max))
    names = _names(node)
    return Constant(found, width(kind), constant.source, zero, names, rounded=True)


def _dequantize(graph: Graph, node: NodeProto, inputs: Inputs) -> Constant:
    constant = inputs[0]
    assert constant is not None
    zero, bits = _parameters(node, inputs)[1], constant.bits
    if (claimed := _claimed(node)) is not None:
        bits = _kept(claimed, constant, node)
    return replace(constant, zero=zero, bits=bits, scales=_names(node))


def _claimed(node: NodeProto) -> str | None:
    """Returns the width that a file claims for the integers of a node, if it does."""
    key, equals, value = node.doc_string.partition("=")
    documented = {key: value} if equals else {}
    return (documented | {entry.key: entry.value for entry in node.metadata_props}).get(BITS)


def _kept(claimed: str, constant: Constant, node: NodeProto) -> int:
    """Returns the width that a file claims for a constant, which must keep to it."""
    bits = int(claimed) if claimed in map(str, range(1, constant.bits + 1)) else 0
    low, high = (-1, 1) if bits == 1 else (-(2**bits // 2), 2**bits // 2 - 1)
    if bits == 0 or constant.array.min() < low or constant.array.max() > high:
        found = f"{printable(node.input[0])} does not have the {printable(claimed)} bits"
        raise ValueError(f"{found} that its metadata claim")
    return bits


def _clip(graph: Graph, node: NodeProto, inputs: Inputs) -> Constant:
    constant, limits = inputs[0], limits_of(node, inputs)
    assert constant is not None
    is_grid, bits = is_integer(graph.kinds[node.output[0]]), constant.bits
    if limits is None or (constant.scales and not is_grid):  # of scaled integers, it keeps zeros
        return constant
    array = constant.array
    low, high = np.clip(limits, array.min(), array.max()).astype(array.dtype)
    bits = min(bits, levels_to_bits(*limits)) if is_grid else bits
    return replace(constant, array=array.clip(low, high), bits=bits)


def _parameters(node: NodeProto, inputs: Inputs) -> tuple[Array, Array | int]:
    """Returns the scale and the zero point of a quantizer in a shape that fits its input."""
    values, given = inputs[0], attributes(node)
    assert values is not None

    def spread(constant: Constant | None) -> Array | int:
        if constant is None:
            return 0
        found, axis = constant.array, given.get("axis", 1)
        if found.size == 1:
            return found.reshape(())
        size = values.array.shape[axis]
        if found.ndim == 1 and found.size == size:
            return found.reshape([-1, *[1] * (values.array.ndim - axis % values.array.ndim - 1)])
        block, blocks = min(given.get("block_size", 0), size), list(values.array.shape)
        blocks[axis] = math.ceil(size / block) if block > 0 else 0
        if list(found.shape) != blocks:
            raise ValueError(f"the scales of {printable(node.input[0])} have another shape")
        return found.repeat(block, axis).take(range(size), axis)

    scale = spread(inputs[1])
    assert not isinstance(scale, int)
    return scale, spread(inputs[2] if len(inputs) > 2 else None)


def _names(node: NodeProto) -> tuple[str, ...]:
    return tuple(name for name in node.input[1:3] if name)


FOLDS: Mapping[str, Callable[[Graph, NodeProto, Inputs], Constant]] = {
    **dict.fromkeys(("Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze"), _same),
    "Transpose": _transpose,
    "Cast": _cast,
    "Clip": _clip,
    "QuantizeLinear": _quantize,
    "DequantizeLinear": _dequantize,
}
"""The operators that may stand between a stored tensor and the layer that reads it."""
