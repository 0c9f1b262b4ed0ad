"""A shipped network as an ONNX model: uint8 images in, logits out.

Written by hand because no exporter writes weights of 2 and 4 bits. Networks all of whose weights
and activations are half precision are half precision throughout; all others compute in single
precision, with 16-bit tensors stored in 16 bits.
"""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto
from torch import fx

from micronet_search.compression.graph import trace
from micronet_search.export.onnx_layers import write_function, write_layer
from micronet_search.export.onnx_writer import Context, GraphWriter
from micronet_search.network.precision import Plan
from micronet_search.shipped import Shipped


def write(shipped: Shipped, metadata: dict[str, str]) -> bytes:
    """The ONNX file of a network.

    Input `image`: uint8 (N, C, H, W), N free. Output `logits`: float32 (N, classes).

    Args:
        shipped: The network, which computes with the stored tensors.
        metadata: Names and texts that stand in the file beside the graph.
    """
    half = _is_half(shipped.plan)
    writer = GraphWriter(torch.float16 if half else torch.float32)
    context = Context(writer, shipped.tensors, shipped.plan)
    values: dict[fx.Node, str] = {}
    output = ""
    for node in trace(shipped.network).nodes:
        sources = [values[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            values[node] = _image(writer, shipped)
        elif node.op == "call_module":
            module = shipped.network.get_submodule(node.target)
            values[node] = write_layer(context, node.target, module, sources)
        elif node.op == "call_function":
            values[node] = write_function(context, node, sources)
        else:
            assert node.op == "output", node.op
            (output,) = sources
    candidate = shipped.candidate
    shape = (candidate.input.channels, candidate.input.height, candidate.input.width)
    content: bytes = writer.model(shape, candidate.classes, output, metadata).SerializeToString()
    return content


def _is_half(plan: Plan) -> bool:
    """Whether everything in the network has 16 bits, but for the image."""
    widths = [p.weight_bits for p in plan.layers.values()]
    widths += [p.activation_bits for p in plan.layers.values() if not p.image]
    return set(widths) == {16}


def _image(writer: GraphWriter, shipped: Shipped) -> str:
    """The normalised image.

    A `DequantizeLinear` would do the same, but beside it ONNX Runtime would round the weights of a
    first layer that is no integer one to 8 bits.
    """
    normalization = shipped.normalization
    mean = writer.store("image.mean", np.array(normalization.mean, np.float32))
    scale = writer.store("image.scale", np.array(normalization.scale, np.float32))
    pixels = writer.add("Cast", ["image"], "image.pixels", to=TensorProto.FLOAT)
    centred = writer.add("Sub", [pixels, mean], "image.centred")
    normalized = writer.add("Mul", [centred, scale], "image.normalized")
    # in single precision first, so that the scale is not rounded
    if writer.compute == TensorProto.FLOAT:
        return normalized
    return writer.add("Cast", [normalized], "image.half", to=TensorProto.FLOAT16)
