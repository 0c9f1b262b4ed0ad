"""How each kind of layer is written in ONNX.

Integer weights are initialisers of the narrowest true type with a `DequantizeLinear` per output
channel; integer inputs go through a `QuantizeLinear` and a `DequantizeLinear`, after a `Clip` where
they have fewer bits than the 8 of their type. `LAYERS` and `FUNCTIONS` say what can be written:
another kind of layer is an entry more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, fx, nn

from micronet_search.compression.quantize import InputQuantizer
from micronet_search.export.onnx_writer import GraphWriter, integer_type
from micronet_search.score.precision import Plan


@dataclass(frozen=True, eq=False)
class Context:
    """What the layers of one network are written from and into.

    Attributes:
        writer: Takes the nodes.
        tensors: The stored ones, by name.
        plan: The width of each layer.
    """

    writer: GraphWriter
    tensors: Mapping[str, Tensor]
    plan: Plan


def write_layer(context: Context, name: str, module: nn.Module, source: str) -> str:
    """Adds a module's nodes, named after it; `source` is the value that it reads.

    Returns:
        The value that it puts out.
    """
    for kind in type(module).__mro__:
        if kind in LAYERS:
            return LAYERS[kind](context, name, module, source)
    raise AssertionError(f"{name}: no way to write {type(module).__name__} in ONNX")


def write_function(context: Context, node: fx.Node, sources: list[str]) -> str:
    """Adds what a function computes of the values that it reads, named after its node.

    Returns:
        The value that it puts out.
    """
    assert node.target in FUNCTIONS, f"{node.name}: no way to write {node.target} in ONNX"
    return FUNCTIONS[node.target](context, node, sources)


def _conv(context: Context, name: str, module: nn.Module, source: str) -> str:
    assert isinstance(module, nn.Conv2d)
    assert not isinstance(module.padding, str), module.padding
    assert module.padding_mode == "zeros", module.padding_mode
    attributes = {
        "kernel_shape": module.kernel_size,
        "strides": module.stride,
        "pads": module.padding * 2,
        "dilations": module.dilation,
        "group": module.groups,
    }
    return _product(context, "Conv", name, module, source, (1, -1, 1, 1), attributes)


def _linear(context: Context, name: str, module: nn.Module, source: str) -> str:
    return _product(context, "Gemm", name, module, source, (1, -1), {"transB": 1})


def _product(
    context: Context,
    operator: str,
    name: str,
    module: nn.Module,
    source: str,
    channels: tuple[int, ...],
    attributes: dict[str, Any],
) -> str:
    """A product with the weights, and the bias, which has the shape `channels` where it is added.

    Beside integers the bias is added by a node of its own: ONNX Runtime would turn a `Conv` with
    a bias, between quantized values, into one whose bias is rounded to the product of their scales,
    which with weights of few bits is another network, and with 2-bit weights none that runs.
    """
    writer, bias = context.writer, f"{name}.bias"
    operands = [_input(context, name, module, source), _weight(context, name)]
    if bias not in context.tensors:
        return writer.add(operator, operands, name, **attributes)
    values = context.tensors[bias]
    if not context.plan.layers[name].scales_weights:
        return writer.add(operator, [*operands, writer.constant(bias, values)], name, **attributes)
    product = writer.add(operator, operands, f"{name}.product", **attributes)
    return writer.add("Add", [product, writer.constant(bias, values.view(channels))], name)


def _weight(context: Context, name: str) -> str:
    stored, scale = f"{name}.weight", f"{name}.weight_scale"
    values, precision = context.tensors[stored], context.plan.layers[name]
    if not precision.scales_weights:
        return context.writer.constant(stored, values)
    integers = values.numpy().astype(integer_type(precision.weight_bits))
    return context.writer.add(
        "DequantizeLinear",
        [
            context.writer.store(stored, integers),
            # its type is that of the output
            context.writer.store(scale, context.tensors[scale].float().numpy()),
        ],
        f"{stored}.dequantize",
        axis=0,
    )


def _input(context: Context, name: str, module: nn.Module, source: str) -> str:
    """The input of a layer in its width, as the layer's quantizer has it."""
    precision = context.plan.layers[name]
    if precision.scales_input:
        quantizer = module.get_submodule("input_quantizer")
        assert isinstance(quantizer, InputQuantizer)
        return _quantized(context, name, quantizer, source)
    return _half(context.writer, name, source) if precision.activation_bits == 16 else source


def _quantized(context: Context, name: str, quantizer: InputQuantizer, source: str) -> str:
    """Rounds to integers times a scale and back, clipped to a width below 8 bits.

    Between quantized values, ONNX Runtime would round weights that are no integers to 8 bits; the
    same clip after the rounding, not before it, is what stops it.
    """
    writer, precision = context.writer, context.plan.layers[name]
    scale = context.tensors[f"{name}.input_scale"].float().numpy()[0]

    def clip(value: str) -> str:
        ends = {"low": quantizer.low * scale, "high": quantizer.high * scale}
        limits = [writer.store(f"{name}.input_{end}", limit) for end, limit in ends.items()]
        return writer.add("Clip", [value, *limits], f"{name}.input.clip")

    if precision.scales_weights and precision.activation_bits < 8:
        source = clip(source)
    kind = np.dtype(np.int8 if quantizer.low < 0 else np.uint8)
    parameters = [
        writer.store(f"{name}.input_scale", scale),
        writer.store(f"zero.{kind.name}", np.zeros((), kind)),
    ]
    integers = writer.add("QuantizeLinear", [source, *parameters], f"{name}.input.quantize")
    rounded = writer.add("DequantizeLinear", [integers, *parameters], f"{name}.input.dequantize")
    return rounded if precision.scales_weights else clip(rounded)


def _half(writer: GraphWriter, name: str, source: str) -> str:
    """Rounds to half precision where the graph computes in another one."""
    if writer.compute == TensorProto.FLOAT16:
        return source
    half = writer.add("Cast", [source], f"{name}.input.half", to=TensorProto.FLOAT16)
    return writer.add("Cast", [half], f"{name}.input", to=writer.compute)


def _norm(context: Context, name: str, module: nn.Module, source: str) -> str:
    """What is left of a norm: a factor and a summand per channel."""

    def per_channel(part: str) -> str:
        stored = f"{name}.{part}"
        return context.writer.constant(stored, context.tensors[stored].view(1, -1, 1, 1))

    operands = [source, per_channel("weight")]
    if context.writer.compute == TensorProto.FLOAT16:
        # ONNX Runtime, which looks for the factor in the second place, would multiply the weights
        # of a convolution before by it and round them to half precision once more
        operands.reverse()
    scaled = context.writer.add("Mul", operands, f"{name}.scaled")
    return context.writer.add("Add", [scaled, per_channel("bias")], name)


def _relu(context: Context, name: str, module: nn.Module, source: str) -> str:
    return context.writer.add("Relu", [source], name)


def _average_pool(context: Context, name: str, module: nn.Module, source: str) -> str:
    assert isinstance(module, nn.AvgPool2d)
    assert not module.ceil_mode, name
    assert module.divisor_override is None, name
    return context.writer.add(
        "AveragePool",
        [source],
        name,
        kernel_shape=_pair(module.kernel_size),
        strides=_pair(module.stride),
        pads=_pair(module.padding) * 2,
        count_include_pad=int(module.count_include_pad),
    )


def _global_pool(context: Context, name: str, module: nn.Module, source: str) -> str:
    assert isinstance(module, nn.AdaptiveAvgPool2d)
    assert module.output_size in (1, (1, 1)), (name, module.output_size)
    return context.writer.add("GlobalAveragePool", [source], name)


def _flatten(context: Context, name: str, module: nn.Module, source: str) -> str:
    assert isinstance(module, nn.Flatten)
    assert (module.start_dim, module.end_dim) == (1, -1), name
    return context.writer.add("Flatten", [source], name, axis=1)


def _identity(context: Context, name: str, module: nn.Module, source: str) -> str:
    return source


def _concatenate(context: Context, node: fx.Node, sources: list[str]) -> str:
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return context.writer.add("Concat", sources, node.name, axis=dimension)


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


LAYERS: dict[type, Callable[[Context, str, nn.Module, str], str]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _relu,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Flatten: _flatten,
    nn.Identity: _identity,
}
FUNCTIONS: dict[Any, Callable[[Context, fx.Node, list[str]], str]] = {torch.cat: _concatenate}
