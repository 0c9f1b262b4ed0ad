"""A shipped network as a packed file, `model.mnz`: hardly more than the bits that the score counts.

`mnz` reads it, and `docs/packed.md` describes the format.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from torch import Tensor, fx, nn

from micronet_search import mnz
from micronet_search.compression.graph import trace
from micronet_search.data.splits import Images
from micronet_search.export import check
from micronet_search.mnz import Array
from micronet_search.network.layers import Add, GlobalMean, Join, Scale
from micronet_search.network.precision import Plan
from micronet_search.network.tensors import TensorSpec, layer_specs
from micronet_search.runtime import ExportError
from micronet_search.shipped import Shipped
from micronet_search.training.fit import predictions

MARGIN_SHARE, MARGIN_BYTES = 0.02, 512
"""How much larger a packed file may be than what the score counts."""

_SILENT = nn.Identity | nn.Flatten
OPERATIONS: dict[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm2d: "norm",
    nn.ReLU: "relu",
    nn.SiLU: "silu",
    nn.Hardswish: "hard-swish",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "hard-sigmoid",
    nn.AvgPool2d: "average-pool",
    GlobalMean: "global-mean",
    Add: "add",
    Join: "join",
    Scale: "scale",
}


def most_bytes(storage_bits: int) -> int:
    """Returns the most bytes that the packed file of a network may have, by what is counted."""
    return int(storage_bits / 8 * (1 + MARGIN_SHARE)) + MARGIN_BYTES


CHECKED, BATCH = 500, 250
"""Test images on which the reader is compared with the network."""


def write(shipped: Shipped, split: Images) -> bytes:
    """Returns the packed file of a network, once the reader has run it.

    Args:
        shipped: The network.
        split: Images on which the two are compared.

    Raises:
        ExportError: The reader refuses the file, or predicts too many images otherwise.
    """
    content, images = pack(shipped), split.images[:CHECKED].cpu()
    try:
        found = mnz.load(content)(images.numpy()).argmax(1)
    except ValueError as error:
        raise ExportError(
            f"the packed file cannot be read: {error}; nothing was exported"
        ) from None
    expected = predictions(shipped, images.split(BATCH)).numpy()
    check.require_agreement("the packed file", int((found != expected).sum()), len(images))
    return content


def pack(shipped: Shipped) -> bytes:
    """Returns the packed file of a network."""
    rows, specs = list[list[int]](), list[TensorSpec]()
    values: dict[fx.Node, int] = {}  # each value by its number
    for node in trace(shipped.network).nodes:
        sources = [values[source] for source in node.all_input_nodes]
        if node.op == "placeholder":
            values[node] = 0
        elif node.op == "call_module":
            module = shipped.network.get_submodule(node.target)
            if isinstance(module, _SILENT):
                values[node] = sources[0]
                continue
            stored = layer_specs(node.target, module, shipped.plan)
            values[node] = len(rows) + 1
            back = [values[node] - source for source in sources]
            rows.append(_row(node.target, module, back, stored, shipped.plan))
            specs += stored
    assert sources == [len(rows)], "the last layer puts out the logits"
    graph = zlib.compress(np.array(rows, "<u2").tobytes(), 9)
    image, plan, normalization = shipped.candidate.input, shipped.plan, shipped.normalization
    head = mnz.HEAD.pack(
        mnz.MAGIC,
        plan.rest_bits,
        normalization.mean,
        normalization.scale,
        image.channels,
        image.height,
        image.width,
        len(graph),
    )
    content = head + graph + _stream(_tensor(spec, shipped.tensors[spec.name]) for spec in specs)
    return content + zlib.crc32(content).to_bytes(4, "little")


def _row(
    name: str, module: nn.Module, back: list[int], stored: tuple[TensorSpec, ...], plan: Plan
) -> list[int]:
    """Returns the numbers of a node, which reads the values that are so far back."""
    operations = [OPERATIONS[kind] for kind in type(module).__mro__ if kind in OPERATIONS]
    assert operations, f"{name}: no way to pack {type(module)}"
    window, groups, input_bits, flags = [1, 1, 0], 1, 0, 0
    if isinstance(module, nn.Conv2d | nn.AvgPool2d):
        sides = (module.kernel_size, module.stride, module.padding)
        window = [_side(name, side) for side in sides]
    if isinstance(module, nn.AvgPool2d):
        found = module.ceil_mode, module.count_include_pad, module.divisor_override
        assert found == (False, True, None), name
    if isinstance(module, nn.Conv2d):
        groups = module.groups
        assert (_side(name, module.dilation), module.padding_mode) == (1, "zeros"), name
    if isinstance(module, nn.Conv2d | nn.Linear):
        precision = plan.layers[name]
        input_bits = precision.activation_bits
        signed = getattr(getattr(module, "input_quantizer", None), "low", 0) < 0
        flags = mnz.SIGNED * signed + mnz.DYNAMIC * precision.dynamic
    bits: dict[str, int] = {spec.role: spec.bits for spec in stored}
    return [
        list(mnz.OPERATIONS).index(operations[0]),
        *[*back, 0][:2],
        stored[0].shape[0] if stored else 1,
        *window,
        groups,
        *(bits.get(role, 0) for role in mnz.ROLES),
        input_bits,
        flags,
    ]


def _side(name: str, sides: Any) -> int:
    """Returns the one number of a kernel, stride or padding."""
    numbers = set(sides) if isinstance(sides, tuple) else {sides}
    assert len(numbers) == 1, f"{name}: no way to pack {sides}"
    return int(numbers.pop())


def _stream(parts: Iterable[Array]) -> bytes:
    """Joins bits, the first of which is the lowest one of its byte."""
    found, rest = bytearray(), np.zeros(0, np.uint8)
    for part in parts:
        bits = np.concatenate([rest, part])
        whole = len(bits) // 8 * 8
        found += np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    return bytes(found + np.packbits(rest, bitorder="little").tobytes())


def _tensor(spec: TensorSpec, tensor: Tensor) -> Array:
    """Returns the bits of a tensor: a flag, then all elements, or a mask and the nonzeros."""
    values = tensor.numpy().ravel()
    kept, bits = values != 0, spec.bits
    nonzeros, elements = int(kept.sum()), spec.elements
    # a sign of one bit cannot be zero
    sparse = nonzeros < elements and (bits == 1 or nonzeros * bits + elements < elements * bits)
    mask = kept if sparse else kept[:0]
    return np.concatenate([[sparse], mask, _elements(values[mask] if sparse else values, bits)])


def _elements(values: Array, bits: int) -> Array:
    if bits == 1:
        return (values < 0).astype(np.uint8)
    content = values.astype(values.dtype.newbyteorder("<")).view(np.uint8)
    each = np.unpackbits(content.reshape(-1, values.itemsize), axis=1, bitorder="little")
    return each[:, :bits].ravel()
