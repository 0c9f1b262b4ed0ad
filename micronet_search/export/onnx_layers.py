"""How each kind of layer is written in ONNX; a new kind is one more entry in `LAYERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import fx, nn

from micronet_search.compression.quantizers import DynamicInputQuantizer, InputQuantizer
from micronet_search.compression.rounding import SMALLEST_SCALE
from micronet_search.export.onnx_writer import GraphWriter, integer_type
from micronet_search.network.layers import Add, GlobalMean, Scale

Write = Callable[..., str]
"""Adds the nodes of a layer, given the writer, its name, itself and each value that it reads."""


def write_layer(
    writer: GraphWriter, name: str, layer: nn.Module | fx.Node, sources: list[str]
) -> str:
    """Adds the nodes of a module, or of a node of the traced graph that calls a function.

    It reads the values of the sources, in order, and puts out the value `name`, which is returned.
    """
    kinds = (layer.target,) if isinstance(layer, fx.Node) else type(layer).__mro__
    for kind in kinds:
        if kind in LAYERS:
            return LAYERS[kind](writer, name, layer, *sources)
    raise AssertionError(f"{name}: no way to write {kinds[0]} in ONNX")


def _product(writer: GraphWriter, name: str, module: nn.Conv2d | nn.Linear, source: str) -> str:
    """Adds the product of a layer's input with its weights, and the bias.

    Beside integers the bias is added by a node of its own: ONNX Runtime would turn a `Conv` with
    a bias, between quantized values, into one whose bias is rounded to the product of their scales,
    which with weights of few bits is another network, and with 2-bit weights none that runs.
    """
    operator: str = "Gemm"
    attributes: dict[str, Any] = {"transB": 1}
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str), module.padding
        assert module.padding_mode == "zeros", module.padding_mode
        operator = "Conv"
        attributes = {
            "kernel_shape": module.kernel_size,
            "strides": module.stride,
            "pads": module.padding * 2,
            "dilations": module.dilation,
            "group": module.groups,
        }
    operands = [_input(writer, name, module, source), _weight(writer, name)]
    if "bias" not in writer.tensors_of(name):
        return writer.add(operator, operands, name, **attributes)
    if not writer.plan.layers[name].scales_weights:
        return writer.add(operator, [*operands, writer.constant(name, "bias")], name, **attributes)
    product = writer.add(operator, operands, f"{name}.product", **attributes)
    channels = (1, -1, *[1] * (module.weight.dim() - 2))
    return writer.add("Add", [product, writer.constant(name, "bias", *channels)], name)


def _weight(writer: GraphWriter, name: str) -> str:
    """Adds the weights of a layer; integers are scaled in each output channel."""
    precision, tensors = writer.plan.layers[name], writer.tensors_of(name)
    if not precision.scales_weights:
        return writer.constant(name, "weight")
    integers = tensors["weight"].numpy().astype(integer_type(precision.weight_bits))
    # the output has the type of the scale
    scale = tensors["weight_scale"].float().numpy()
    stored = writer.store_tensor(name, "weight", integers)
    operands = [stored, writer.store_tensor(name, "weight_scale", scale)]
    return writer.add("DequantizeLinear", operands, f"{stored}.dequantize", axis=0)


def _input(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    """Adds the rounding of a layer's input as its quantizer has it, and returns the value."""
    precision = writer.plan.layers[name]
    if precision.scales_input:
        quantizer = module.get_submodule("input_quantizer")
        if isinstance(quantizer, DynamicInputQuantizer):
            axes = (1, 2, 3) if isinstance(module, nn.Conv2d) else (1,)
            return _dynamic(writer, name, quantizer, source, axes)
        assert isinstance(quantizer, InputQuantizer)
        return _static(writer, name, quantizer, source)
    if precision.activation_bits != 16 or writer.compute == TensorProto.FLOAT16:
        return source
    half = writer.add("Cast", [source], f"{name}.input.half", to=TensorProto.FLOAT16)
    return writer.add("Cast", [half], f"{name}.input", to=writer.compute)


def _static(writer: GraphWriter, name: str, quantizer: InputQuantizer, source: str) -> str:
    """Adds a `QuantizeLinear` and a `DequantizeLinear`, with a `Clip` to a width below 8 bits.

    Between quantized values, ONNX Runtime would round weights that are no integers to 8 bits; the
    same clip after the rounding, not before it, is what stops it.
    """
    layers = writer.plan.layers
    scale = writer.tensors_of(name)["input_scale"].float().numpy()[0]

    def least() -> str:
        return writer.store(f"{name}.input_low", quantizer.low * scale)

    def clip(value: str) -> str:
        limits = [least(), writer.store(f"{name}.input_high", quantizer.high * scale)]
        return writer.add("Clip", [value, *limits], f"{name}.input.clip")

    is_product = source in layers and layers[source].scales_weights
    if is_product and "bias" not in writer.tensors_of(source):
        # The product of integer weights, rounded as it is, would become a `QLinearConv` in ONNX
        # Runtime, whose sums saturate at 16 bits on processors that multiply pairs of bytes alone.
        # `Max` stops it; `Clip` would be removed.
        source = writer.add("Max", [source, least()], f"{name}.input.bounded")
    if layers[name].scales_weights and layers[name].activation_bits < 8:
        source = clip(source)
    kind = np.dtype(np.int8 if quantizer.low < 0 else np.uint8)
    parameters = [
        writer.store_tensor(name, "input_scale", scale),
        writer.store(f"zero.{kind.name}", np.zeros((), kind)),
    ]
    integers = writer.add("QuantizeLinear", [source, *parameters], f"{name}.input.quantize")
    rounded = writer.add("DequantizeLinear", [integers, *parameters], f"{name}.input.dequantize")
    return rounded if layers[name].scales_weights else clip(rounded)


def _dynamic(
    writer: GraphWriter,
    name: str,
    quantizer: DynamicInputQuantizer,
    source: str,
    axes: tuple[int, ...],
) -> str:
    """Spells out the rounding by the scale of each image, which its largest value over `axes` sets.

    Clipping would change nothing, for no value is beyond the largest. `DynamicQuantizeLinear` has
    one scale for a whole batch, and 8 bits alone.
    """
    size = source
    if quantizer.low < 0:
        size = writer.add("Abs", [source], f"{name}.input.size")
    over = writer.store(f"axes.{len(axes)}", np.array(axes, np.int64))
    largest = writer.add("ReduceMax", [size, over], f"{name}.input.largest", keepdims=1)
    reach = writer.store(f"reach.{quantizer.high}", np.array(quantizer.reach, np.float32))
    unbounded = writer.add("Div", [largest, reach], f"{name}.input.unbounded")
    smallest = writer.store("smallest_scale", np.array(SMALLEST_SCALE, np.float32))
    scale = writer.add("Max", [unbounded, smallest], f"{name}.input.scale")
    parts = writer.add("Div", [source, scale], f"{name}.input.parts")
    integers = writer.add("Round", [parts], f"{name}.input.integers")
    return writer.add("Mul", [integers, scale], f"{name}.input")


def _norm(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    operands = [source, writer.constant(name, "weight", 1, -1, 1, 1)]
    if writer.compute == TensorProto.FLOAT16:
        # ONNX Runtime, which looks for the factor in the second place, would multiply the weights
        # of a convolution before by it and round them to half precision once more
        operands.reverse()
    scaled = writer.add("Mul", operands, f"{name}.scaled")
    return writer.add("Add", [scaled, writer.constant(name, "bias", 1, -1, 1, 1)], name)


def _operator(operator: str, **attributes: float) -> Write:
    """Makes the writer of a layer that is one operator."""

    def write(writer: GraphWriter, name: str, module: nn.Module, *sources: str) -> str:
        return writer.add(operator, [*sources], name, **attributes)

    return write


def _silu(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    gate = writer.add("Sigmoid", [source], f"{name}.gate")
    return writer.add("Mul", [source, gate], name)


def _average_pool(writer: GraphWriter, name: str, module: nn.AvgPool2d, source: str) -> str:
    size, plain = module.kernel_size, (module.kernel_size, 0, False, None)
    found = (module.stride, module.padding, module.ceil_mode, module.divisor_override)
    assert found == plain, module
    window = {"kernel_shape": (size, size), "strides": (size, size), "pads": (0,) * 4}
    return writer.add("AveragePool", [source], name, **window, count_include_pad=1)


def _flatten(writer: GraphWriter, name: str, module: nn.Flatten, source: str) -> str:
    assert (module.start_dim, module.end_dim) == (1, -1), name
    return writer.add("Flatten", [source], name, axis=1)


def _concatenate(writer: GraphWriter, name: str, node: fx.Node, *sources: str) -> str:
    dimension = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
    return writer.add("Concat", [*sources], name, axis=dimension)


LAYERS: dict[Any, Write] = {
    nn.Conv2d: _product,
    nn.Linear: _product,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _operator("Relu"),
    nn.SiLU: _silu,
    nn.Hardswish: _operator("HardSwish"),
    nn.Sigmoid: _operator("Sigmoid"),
    nn.Hardsigmoid: _operator("HardSigmoid", alpha=1 / 6, beta=0.5),
    nn.AvgPool2d: _average_pool,
    GlobalMean: _operator("GlobalAveragePool"),
    nn.Flatten: _flatten,
    nn.Identity: lambda writer, name, module, source: source,
    Add: _operator("Add"),
    Scale: _operator("Mul"),
    torch.cat: _concatenate,
}
"""The modules and functions that can be written."""
