"""How each kind of layer is written in ONNX; a new kind is one more entry in `LAYERS`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnx import TensorProto
from torch import fx, nn

from micronet_search.export.onnx_quantized import write_input, write_weight
from micronet_search.export.onnx_writer import GraphWriter
from micronet_search.network.layers import Add, GlobalMean, Scale

Write = Callable[..., str]
"""Adds the nodes of a layer, given the writer, its name, itself and each value that it reads."""


def write_layer(
    writer: GraphWriter, name: str, layer: nn.Module | fx.Node, sources: list[str]
) -> str:
    """Adds the nodes of a module, or of a node of the traced graph that calls a function.

    Args:
        writer: Takes the nodes.
        name: The name of the value that the layer puts out, which is returned.
        layer: The module or node.
        sources: The values that it reads, in order.
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
    operator, attributes = "Gemm", {"transB": 1}
    if isinstance(module, nn.Conv2d):
        operator, attributes = "Conv", _window(module)
    operands = [write_input(writer, name, module, source), write_weight(writer, name)]
    if "bias" not in writer.tensors_of(name):
        return writer.add(operator, operands, name, **attributes)
    if not writer.plan.layers[name].scales_weights:
        return writer.add(operator, [*operands, writer.constant(name, "bias")], name, **attributes)
    product = writer.add(operator, operands, f"{name}.product", **attributes)
    channels = (1, -1, *[1] * (module.weight.dim() - 2))
    return writer.add("Add", [product, writer.constant(name, "bias", *channels)], name)


def _window(module: nn.Conv2d) -> dict[str, Any]:
    assert not isinstance(module.padding, str), module.padding
    assert module.padding_mode == "zeros", module.padding_mode
    return {
        "kernel_shape": module.kernel_size,
        "strides": module.stride,
        "pads": module.padding * 2,
        "dilations": module.dilation,
        "group": module.groups,
    }


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
    size = module.kernel_size
    assert (module.stride, module.padding, module.ceil_mode) == (size, 0, False), module
    assert module.divisor_override is None, module
    window = (size, size)
    attributes = {"kernel_shape": window, "strides": window, "pads": (0,) * 4}
    return writer.add("AveragePool", [source], name, **attributes, count_include_pad=1)


def _flatten(writer: GraphWriter, name: str, module: nn.Flatten, source: str) -> str:
    assert (module.start_dim, module.end_dim) == (1, -1), name
    return writer.add("Flatten", [source], name, axis=1)


def _identity(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    return source


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
    nn.Identity: _identity,
    Add: _operator("Add"),
    Scale: _operator("Mul"),
    torch.cat: _concatenate,
}
"""The modules and functions that can be written."""
