"""The graph of an ONNX file, with the shape of every value that follows from its one input."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from micronet_search.scoring.graphs.file import operator, printable, read_model
from micronet_search.scoring.graphs.shapes import infer

MAX_ELEMENTS = 2**40
_LARGE = 4096  # bytes of a tensor that no shape follows from

Array = np.ndarray[Any, Any]


def width(kind: int) -> int:
    """Returns the bits of an element of an ONNX type."""
    try:
        info: Any = ml_dtypes.iinfo if is_integer(kind) else ml_dtypes.finfo
        return int(info(onnx.helper.tensor_dtype_to_np_dtype(kind)).bits)
    except (KeyError, ValueError):
        raise ValueError(f"found the type {kind}, expected one of integers or floats") from None


def is_integer(kind: int) -> bool:
    """Returns whether an ONNX type is one of integers."""
    return "int" in np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name


@dataclass(frozen=True)
class Graph:
    """A graph whose nodes stand in the order of computation; its constants are tensors.

    Attributes:
        image: The one input, whose first dimension is `batch`.
        tensors: The constants, by name.
        shapes: Of every value whose shape follows from that of the input.
        kinds: The ONNX type of every value.
        makers: The node that puts out a value.
        readers: The nodes that read a value.
        outputs: The values that leave the graph.
    """

    image: str
    batch: int
    nodes: Sequence[NodeProto]
    tensors: Mapping[str, TensorProto]
    shapes: Mapping[str, tuple[int, ...]]
    kinds: Mapping[str, int]
    makers: Mapping[str, NodeProto]
    readers: Mapping[str, Sequence[NodeProto]]
    outputs: frozenset[str]

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns the shape of a value, which may be that of a batch."""
        if name not in self.shapes:
            maker = f", made by {operator(self.makers[name])}," if name in self.makers else ""
            raise ValueError(f"the shape of {printable(name)}{maker} is not known")
        if math.prod(self.shapes[name]) > MAX_ELEMENTS:
            raise ValueError(f"{printable(name)} has more than {MAX_ELEMENTS:,} elements")
        return self.shapes[name]

    def elements(self, name: str) -> int:
        """Returns the elements of a value for one image."""
        return math.prod(self.shape(name)) // self.batch

    def array(self, name: str) -> Array:
        """Returns the values of a constant."""
        tensor = self.tensors[name]
        # the shape is a claim; an element takes at least an eighth of its bytes
        if math.prod(tensor.dims) * width(tensor.data_type) > 64 * tensor.ByteSize():
            raise ValueError(f"{printable(name)} has the shape {[*tensor.dims]} and too few values")
        try:
            found: Array = numpy_helper.to_array(tensor)
        except Exception:  # of several classes
            raise ValueError(f"the values of {printable(name)} are damaged") from None
        small = is_integer(tensor.data_type) and width(tensor.data_type) < 8
        return found.astype(np.int8) if small else found

    def only_reader(self, name: str) -> NodeProto | None:
        """Returns the node that reads a value, if it is the only one and the value stays inside."""
        readers = self.readers.get(name, ())
        return readers[0] if len(readers) == 1 and name not in self.outputs else None


def read(path: str | Path) -> Graph:
    """Reads a graph from one image to outputs.

    Raises:
        OSError: There is no such file.
        ValueError: The file is no ONNX file, damaged, too large, or does not have such a graph.
    """
    try:
        return _graph(read_model(path))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: damaged, or no ONNX file: a name is no text") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _graph(model: ModelProto) -> Graph:
    """Checks a model, and infers the shape of every value from that of the input alone."""
    graph = model.graph
    tensors = {t.name: t for t in graph.initializer}
    image, batch = _input(graph, tensors)
    _drop_claims(graph)
    try:
        onnx.checker.check_model(model)
        kinds, shapes = infer(model)
    except ValueError:
        raise
    except Exception as error:  # their classes share no other base
        found = " ".join(str(error).split()).removeprefix("[ShapeInferenceError] ")
        raise ValueError(f"not valid as ONNX: {printable(found, 200)}") from None
    readers: dict[str, list[NodeProto]] = defaultdict(list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    makers = {name: node for node in graph.node for name in node.output}
    outputs = frozenset(value.name for value in graph.output)
    return Graph(image, batch, graph.node, tensors, shapes, kinds, makers, readers, outputs)


def _input(graph: GraphProto, tensors: Mapping[str, TensorProto]) -> tuple[str, int]:
    """Returns the name of the one input and its batch, which is 1 where the file leaves it open."""
    inputs = [value for value in graph.input if value.name not in tensors]
    if len(inputs) != 1:
        names = ", ".join(printable(value.name) for value in inputs[:5])
        raise ValueError(f"found {len(inputs)} inputs ({names}), expected one: the image")
    name, dims = inputs[0].name, inputs[0].type.tensor_type.shape.dim
    if len(dims) < 2 or min(d.dim_value for d in dims[1:]) < 1:
        shown = printable(", ".join(str(d.dim_value or d.dim_param or "?") for d in dims))
        found = f"the input {printable(name)} has the shape ({shown})"
        raise ValueError(f"{found}, expected a batch, and then numbers")
    dims[0].dim_value = max(dims[0].dim_value, 1)
    return name, dims[0].dim_value


def _drop_claims(graph: GraphProto) -> None:
    """Leaves nothing to be believed about shapes, and no large tensors to be copied about."""
    del graph.value_info[:]
    named = {value.name for value in graph.input}
    large = [t for t in graph.initializer if t.ByteSize() > _LARGE]
    small = [t for t in graph.initializer if t.ByteSize() <= _LARGE]
    for t in large:
        if t.name not in named:
            graph.input.append(onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims))
    del graph.initializer[:]
    graph.initializer.extend(small)
