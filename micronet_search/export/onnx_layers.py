"""How each kind of layer is written in ONNX.

`LAYERS` and `FUNCTIONS` say what can be written: another kind of layer is an entry more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto
from torch import fx, nn

from micronet_search.export.onnx_quantized import write_input, write_weight
from micronet_search.export.onnx_writer import Context
from micronet_search.network.layers import Add, Scale

Write = Callable[..., str]
"""Adds the nodes of one kind of layer: of a context, a name, a module and each value it reads."""


def write_layer(context: Context, name: str, module: nn.Module, sources: list[str]) -> str:
    """Adds a module's nodes, named after it; `sources` are the values that it reads, in order.

    Returns:
        The value that it puts out.
    """
    for kind in type(module).__mro__:
        if kind in LAYERS:
            return LAYERS[kind](context, name, module, *sources)
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
    operands = [write_input(context, name, module, source), write_weight(context, name)]
    if bias not in context.tensors:
        return writer.add(operator, operands, name, **attributes)
    values = context.tensors[bias]
    if not context.plan.layers[name].scales_weights:
        return writer.add(operator, [*operands, writer.constant(bias, values)], name, **attributes)
    product = writer.add(operator, operands, f"{name}.product", **attributes)
    return writer.add("Add", [product, writer.constant(bias, values.view(channels))], name)


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


def _operator(operator: str, **attributes: float) -> Write:
    """A layer that is one operator of what it reads."""

    def write(context: Context, name: str, module: nn.Module, *sources: str) -> str:
        return context.writer.add(operator, [*sources], name, **attributes)

    return write


def _silu(context: Context, name: str, module: nn.Module, source: str) -> str:
    gate = context.writer.add("Sigmoid", [source], f"{name}.gate")
    return context.writer.add("Mul", [source, gate], name)


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


LAYERS: dict[type, Write] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.BatchNorm2d: _norm,
    nn.ReLU: _operator("Relu"),
    nn.SiLU: _silu,
    nn.Hardswish: _operator("HardSwish"),
    nn.Sigmoid: _operator("Sigmoid"),
    nn.Hardsigmoid: _operator("HardSigmoid", alpha=1 / 6, beta=0.5),
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    nn.Flatten: _flatten,
    nn.Identity: _identity,
    Add: _operator("Add"),
    Scale: _operator("Mul"),
}
FUNCTIONS: dict[Any, Callable[[Context, fx.Node, list[str]], str]] = {torch.cat: _concatenate}
