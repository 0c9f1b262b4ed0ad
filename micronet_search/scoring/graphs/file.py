"""An ONNX file, read without trust into a model of bounded size that is all there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from micronet_search.config.loading import read_bytes

MAX_BYTES = 2**30
MAX_FIELDS = 500_000
MAX_VARINTS = 2**27

_CONSTANT: dict[str, type[np.generic]] = {
    "value_float": np.float32,
    "value_floats": np.float32,
    "value_int": np.int64,
    "value_ints": np.int64,
}


def read_model(path: str | Path) -> ModelProto:
    """Reads a model of one graph, whose constants are all initialisers with their values in it.

    Raises:
        OSError: There is no such file.
        ValueError: The file is none, damaged, too large, or holds more than one graph.
    """
    if Path(path).stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES:,} bytes, expected an ONNX file")
    content = read_bytes(path, MAX_BYTES)
    _measure(content)
    model = _parse(content)
    if model.functions:
        raise ValueError("found functions in the model, expected a graph of operators alone")
    _make_initializers(model.graph)
    return model


def printable(name: str | bytes, most: int = 80) -> str:
    """Returns a name of the file as it may be shown; one that is no UTF-8 comes as bytes."""
    name = name if isinstance(name, str) else name.decode(errors="replace")
    shown = "".join(letter if letter.isprintable() else "?" for letter in name)
    return shown if len(shown) <= most else f"{shown[: most - 3]}..."


def operator(node: NodeProto) -> str:
    """Returns the name of a node's operator, with its domain where that is not ONNX's own."""
    own = node.domain in ("", "ai.onnx")
    return printable(node.op_type if own else f"{node.domain}.{node.op_type}")


def attributes(node: NodeProto) -> dict[str, Any]:
    """Returns the attributes of a node by name."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def _parse(content: bytes) -> ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # on damaged bytes protobuf raises what is no class of ours
        raise _damaged() from error
    if not model.HasField("graph") or not model.graph.node:
        raise ValueError("found no graph, expected an ONNX file")
    return model


def _damaged() -> ValueError:
    return ValueError("damaged or no ONNX file")


def _measure(content: bytes) -> None:
    """Refuses what would take much more memory than it has bytes, as many empty nodes would."""
    fields = varints = 0
    places: list[tuple[Any, int, int]] = [(ModelProto.DESCRIPTOR, 0, len(content))]
    while places:
        message, place, end = places.pop()
        while place < end:
            tag, place = _varint(content, place)
            field, size = message.fields_by_number.get(tag >> 3), {1: 8, 5: 4}.get(tag & 7, 0)
            match tag & 7:
                case 0:
                    _, place = _varint(content, place)
                case 2:
                    size, place = _varint(content, place)
                    if field is not None and field.message_type is not None:
                        places.append((field.message_type, place, place + size))
                    elif field is not None and field.type not in (
                        *(field.TYPE_STRING, field.TYPE_BYTES),
                        *(field.TYPE_FLOAT, field.TYPE_DOUBLE),
                    ):
                        varints += size
                case 3 | 4 | 6 | 7:
                    raise _damaged()
            place += size
            fields += 1
            if place > end:
                raise _damaged()
            if fields > MAX_FIELDS or varints > MAX_VARINTS:
                most = f"{MAX_FIELDS:,} fields and {MAX_VARINTS:,} bytes of single integers"
                raise ValueError(f"too large in memory, expected at most {most}")


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = 0
    for i, byte in enumerate(content[place : place + 10]):
        value |= (byte & 127) << 7 * i
        if byte < 128:
            return value, place + i + 1
    raise _damaged()


def _make_initializers(graph: GraphProto) -> None:
    """Puts initialisers in the place of constant nodes, and refuses what is not in this file."""
    nodes = []
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or attribute.graphs:
                found = f"found the operator {operator(node)}, which has a graph of its own"
                raise ValueError(f"{found}, expected a single graph")
        if node.op_type == "Constant" and operator(node) == "Constant" and len(node.output) == 1:
            graph.initializer.append(_constant(node))
        else:
            nodes.append(node)
    if graph.sparse_initializer:
        raise ValueError("found sparse tensors, expected dense ones")
    for tensor in _tensors(graph):
        if min(tensor.dims, default=0) < 0:
            raise ValueError(f"{printable(tensor.name)} has the shape {[*tensor.dims]}")
        if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
            found = f"the values of {printable(tensor.name)} are in another file"
            raise ValueError(f"{found}, expected all of them in this one")
    del graph.node[:]
    graph.node.extend(nodes)


def _constant(node: NodeProto) -> TensorProto:
    tensor = TensorProto()
    for name, value in attributes(node).items():
        if name == "value" and isinstance(value, TensorProto):
            tensor.CopyFrom(value)
        elif name in _CONSTANT:
            tensor.CopyFrom(numpy_helper.from_array(np.array(value, _CONSTANT[name])))
        else:
            raise ValueError(f"found a constant given as {printable(name)}, expected numbers")
    tensor.name = node.output[0]
    return tensor


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
