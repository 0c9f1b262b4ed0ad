"""How weights and inputs of few bits are written in ONNX."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from micronet_search.compression.quantizers import DynamicInputQuantizer, InputQuantizer
from micronet_search.compression.rounding import SMALLEST_SCALE
from micronet_search.export.onnx_writer import GraphWriter, integer_type
from micronet_search.network.tensors import tensor_name


def write_weight(writer: GraphWriter, name: str) -> str:
    """Adds the weights of a layer, and returns their value.

    Integers are an initialiser of the narrowest true type with a `DequantizeLinear`, which scales
    each output channel.
    """
    precision, tensors = writer.plan.layers[name], writer.tensors_of(name)
    if not precision.scales_weights:
        return writer.constant(name, "weight")
    stored = tensor_name(name, "weight")
    integers = tensors["weight"].numpy().astype(integer_type(precision.weight_bits))
    # the output has the type of the scale
    scale = tensors["weight_scale"].float().numpy()
    operands = [
        writer.store(stored, integers),
        writer.store(tensor_name(name, "weight_scale"), scale),
    ]
    return writer.add("DequantizeLinear", operands, f"{stored}.dequantize", axis=0)


def write_input(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
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
    precision = writer.plan.layers[name]
    scale = writer.tensors_of(name)["input_scale"].float().numpy()[0]

    def least() -> str:
        return writer.store(f"{name}.input_low", quantizer.low * scale)

    def clip(value: str) -> str:
        limits = [least(), writer.store(f"{name}.input_high", quantizer.high * scale)]
        return writer.add("Clip", [value, *limits], f"{name}.input.clip")

    if _is_bare(writer, source):
        source = writer.add("Max", [source, least()], f"{name}.input.bounded")
    if precision.scales_weights and precision.activation_bits < 8:
        source = clip(source)
    kind = np.dtype(np.int8 if quantizer.low < 0 else np.uint8)
    parameters = [
        writer.store(tensor_name(name, "input_scale"), scale),
        writer.store(f"zero.{kind.name}", np.zeros((), kind)),
    ]
    integers = writer.add("QuantizeLinear", [source, *parameters], f"{name}.input.quantize")
    rounded = writer.add("DequantizeLinear", [integers, *parameters], f"{name}.input.dequantize")
    return rounded if precision.scales_weights else clip(rounded)


def _is_bare(writer: GraphWriter, source: str) -> bool:
    """Tells whether a value is the product of integer weights and of nothing else.

    Rounded as it is, it would become a `QLinearConv` in ONNX Runtime, whose sums saturate at 16
    bits on processors that multiply pairs of bytes alone. `Max` stops it; `Clip` would be removed.
    """
    layers = writer.plan.layers
    product = source in layers and layers[source].scales_weights
    return product and "bias" not in writer.tensors_of(source)


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
