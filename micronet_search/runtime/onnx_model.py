"""A shipped network as an ONNX model: uint8 images in, logits out.

It is written by hand because no exporter writes weights of 2 and 4 bits. A network all of whose
weights and activations are half precision computes in half precision; every other one computes in
single precision, and keeps its 16-bit tensors in 16 bits.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from torch import fx, nn

from micronet_search.compression.graph import trace
from micronet_search.data.splits import Normalization
from micronet_search.network.layers import Add, GlobalMean, Join, Scale
from micronet_search.runtime import OPSET_NEWEST
from micronet_search.runtime.onnx_writer import (
    GraphWriter,
    write_input,
    write_weight,
)
from micronet_search.shipped import Shipped

# Adds the nodes of a layer, given the writer, its name, itself and each value that it reads.
Write = Callable[..., str]


def write(shipped: Shipped, metadata: dict[str, str], opset: int = OPSET_NEWEST) -> bytes:
    """Returns the ONNX file of a network, with texts by name beside the graph.

    Its input `image` is uint8 (N, C, H, W) with any N, its output `logits` float32 (N, classes).
    `opset` is the newest that it may use: below 25 integers have at least 4 bits, below 21 all 8.
    """
    layers = shipped.plan.layers.values()
    widths = {layer.weight_bits for layer in layers}
    widths |= {layer.activation_bits for layer in layers if not layer.image}
    compute = torch.float16 if widths == {16} else torch.float32
    writer = GraphWriter(compute, shipped.tensors, shipped.plan, opset)
    values: dict[fx.Node, str] = {}
    for node in trace(shipped.network).nodes:
        sources = [values[source] for source in node.all_input_nodes]
        match node.op:
            case "placeholder":
                values[node] = _write_image(writer, shipped.normalization)
            case "call_module":
                module = shipped.network.get_submodule(node.target)
                values[node] = write_layer(writer, node.target, module, sources)
    (output,) = sources  # of the last node
    image = shipped.candidate.input
    shape = (image.channels, image.height, image.width)
    model = writer.model(shape, shipped.candidate.classes, output, metadata)
    return bytes(model.SerializeToString())


def _write_image(writer: GraphWriter, normalization: Normalization) -> str:
    """Adds the normalisation of the image.

    A `DequantizeLinear` would do the same, but beside it ONNX Runtime would round the weights of a
    first layer that is no integer one to 8 bits.
    """
    mean = writer.store("image.mean", np.array(normalization.mean, np.float32))
    scale = writer.store("image.scale", np.array(normalization.scale, np.float32))
    pixels = writer.add("Cast", ["image"], "image.pixels", to=TensorProto.FLOAT)
    centred = writer.add("Sub", [pixels, mean], "image.centred")
    normalized = writer.add("Mul", [centred, scale], "image.normalized")
    # in single precision first, so that the scale is not rounded
    if writer.compute == TensorProto.FLOAT:
        return normalized
    return writer.add("Cast", [normalized], "image.half", to=TensorProto.FLOAT16)


def write_layer(writer: GraphWriter, name: str, layer: nn.Module, sources: list[str]) -> str:
    """Adds the nodes of a module.

    It reads the values of the sources, in order, and puts out the value `name`, which is returned.
    """
    for kind in type(layer).__mro__:
        if kind in LAYERS:
            return LAYERS[kind](writer, name, layer, *sources)
    raise AssertionError(f"{name}: no way to write {type(layer)} in ONNX")


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
        operator, attributes = "Conv", {"kernel_shape": module.kernel_size}
        attributes |= {"strides": module.stride, "pads": module.padding * 2}
        attributes |= {"dilations": module.dilation, "group": module.groups}
    operands = [write_input(writer, name, module, source), write_weight(writer, name)]
    if "bias" not in writer.tensors_of(name):
        return writer.add(operator, operands, name, **attributes)
    if not writer.plan.layers[name].scales_weights:
        return writer.add(operator, [*operands, writer.constant(name, "bias")], name, **attributes)
    product = writer.add(operator, operands, f"{name}.product", **attributes)
    channels = (1, -1, *[1] * (module.weight.dim() - 2))
    return writer.add("Add", [product, writer.constant(name, "bias", *channels)], name)


def _norm(writer: GraphWriter, name: str, module: nn.Module, source: str) -> str:
    operands = [source, writer.constant(name, "weight", 1, -1, 1, 1)]
    if writer.compute == TensorProto.FLOAT16:
        # ONNX Runtime, which looks for the factor in the second place, would multiply the weights
        # of a convolution before by it and round them to half precision once more
        operands.reverse()
    scaled = writer.add("Mul", operands, f"{name}.scaled")
    return writer.add("Add", [scaled, writer.constant(name, "bias", 1, -1, 1, 1)], name)


def _operator(operator: str, **attributes: float) -> Write:
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


# The modules that can be written.
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
    Join: _operator("Concat", axis=1),
    Scale: _operator("Mul"),
}
