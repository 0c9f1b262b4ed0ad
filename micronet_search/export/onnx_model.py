"""A shipped network as an ONNX model: uint8 images in, logits out.

It is written by hand because no exporter writes weights of 2 and 4 bits. A network all of whose
weights and activations are half precision computes in half precision; every other one computes in
single precision, and keeps its 16-bit tensors in 16 bits.
"""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto
from torch import fx

from micronet_search.compression.graph import trace
from micronet_search.data.splits import Normalization
from micronet_search.export.onnx_layers import write_layer
from micronet_search.export.onnx_writer import GraphWriter
from micronet_search.shipped import Shipped


def write(shipped: Shipped, metadata: dict[str, str]) -> bytes:
    """Returns the ONNX file of a network, with texts by name beside the graph.

    Its input `image` is uint8 (N, C, H, W) with any N, its output `logits` float32 (N, classes).
    """
    layers = shipped.plan.layers.values()
    widths = {layer.weight_bits for layer in layers}
    widths |= {layer.activation_bits for layer in layers if not layer.image}
    compute = torch.float16 if widths == {16} else torch.float32
    writer = GraphWriter(compute, shipped.tensors, shipped.plan)
    values: dict[fx.Node, str] = {}
    for node in trace(shipped.network).nodes:
        sources = [values[source] for source in node.all_input_nodes]
        match node.op:
            case "placeholder":
                values[node] = _write_image(writer, shipped.normalization)
            case "call_module":
                module = shipped.network.get_submodule(node.target)
                values[node] = write_layer(writer, node.target, module, sources)
            case "call_function":
                values[node] = write_layer(writer, node.name, node, sources)
            case operation:
                assert operation == "output", operation
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
