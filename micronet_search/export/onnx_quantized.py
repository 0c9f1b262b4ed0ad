"""How weights and inputs of few bits are written in ONNX.

Integer weights are initialisers of the narrowest true type with a `DequantizeLinear` per output
channel. Inputs with one fixed scale go through a `QuantizeLinear` and a `DequantizeLinear`, after a
`Clip` where they have fewer bits than the 8 of their type; where the scale is that of each image,
what the quantizer computes is spelled out.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from micronet_search.compression.quantizers import DynamicInputQuantizer, InputQuantizer
from micronet_search.compression.rounding import SMALLEST_SCALE
from micronet_search.export.onnx_writer import Context, GraphWriter, integer_type


def write_weight(context: Context, name: str) -> str:
    """The value of a layer's weights."""
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


def write_input(context: Context, name: str, module: nn.Module, source: str) -> str:
    """The input of a layer in its width, as the layer's quantizer has it."""
    precision = context.plan.layers[name]
    if not precision.scales_input:
        return _half(context.writer, name, source) if precision.activation_bits == 16 else source
    quantizer = module.get_submodule("input_quantizer")
    if precision.dynamic:
        assert isinstance(quantizer, DynamicInputQuantizer)
        axes = (1, 2, 3) if isinstance(module, nn.Conv2d) else (1,)
        return _dynamic(context.writer, name, quantizer, source, axes)
    assert isinstance(quantizer, InputQuantizer)
    return _static(context, name, quantizer, source)


def _static(context: Context, name: str, quantizer: InputQuantizer, source: str) -> str:
    """Rounds to integers times a scale and back, clipped to a width below 8 bits.

    Between quantized values, ONNX Runtime would round weights that are no integers to 8 bits; the
    same clip after the rounding, not before it, is what stops it.
    """
    writer, precision = context.writer, context.plan.layers[name]
    scale = context.tensors[f"{name}.input_scale"].float().numpy()[0]

    def least() -> str:
        return writer.store(f"{name}.input_low", quantizer.low * scale)

    def clip(value: str) -> str:
        limits = [least(), writer.store(f"{name}.input_high", quantizer.high * scale)]
        return writer.add("Clip", [value, *limits], f"{name}.input.clip")

    if _is_bare(context, source):
        source = writer.add("Max", [source, least()], f"{name}.input.bounded")
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


def _is_bare(context: Context, source: str) -> bool:
    """Whether a value is the product of integer weights and of nothing else.

    Rounded as it is, it would become a `QLinearConv` in ONNX Runtime, whose sums saturate at 16
    bits on processors that multiply pairs of bytes alone. `Max` stops it; `Clip` would be removed.
    """
    layers, bias = context.plan.layers, f"{source}.bias"
    return source in layers and layers[source].scales_weights and bias not in context.tensors


def _dynamic(
    writer: GraphWriter,
    name: str,
    quantizer: DynamicInputQuantizer,
    source: str,
    axes: tuple[int, ...],
) -> str:
    """Rounds to integers times the scale of each image, which its largest value over `axes` makes.

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


def _half(writer: GraphWriter, name: str, source: str) -> str:
    """Rounds to half precision where the graph computes in another one."""
    if writer.compute == TensorProto.FLOAT16:
        return source
    half = writer.add("Cast", [source], f"{name}.input.half", to=TensorProto.FLOAT16)
    return writer.add("Cast", [half], f"{name}.input", to=writer.compute)
