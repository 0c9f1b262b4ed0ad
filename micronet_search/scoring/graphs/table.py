"""The layer table of a graph while it is made, node by node."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto, TensorProto

from micronet_search.network.tensors import Role
from micronet_search.scoring.cost import Cost, Layer, Stored
from micronet_search.scoring.graphs.dynamic import dynamic_ranges
from micronet_search.scoring.graphs.file import printable
from micronet_search.scoring.graphs.graph import Array, Graph, is_integer, width
from micronet_search.scoring.graphs.values import Constant, Value

PRODUCTS = ("conv", "linear")


class Table:
    """The rows so far, each by the name of the value that it puts out, and what is known of values.

    Attributes:
        rows: The layers.
        constants: What follows from the tensors of the file alone.
        values: What passes: the image, and what follows from it.
        uncounted: How many nodes there are of each operator whose cost is not known.
        free: How many nodes there are of each operator that only compares.
        rounded: How many weights the graph rounds while it runs.
        shared: How many times a layer reads what an earlier one reads.
        image_bits: The width of the image where a layer reads it as it is, or else 0.
        settled: What is known of values that nodes make together, which need no visit.
        input_scales: The names of the tensors with scales and zero points of values.
    """

    def __init__(self, graph: Graph) -> None:
        """Starts the table of a graph, none of whose nodes was visited."""
        self.graph = graph
        self.rows: dict[str, Layer] = {}
        self.constants: dict[str, Constant] = {}
        self.values = {graph.image: Value(width(graph.kinds[graph.image]), image=True)}
        self.settled = dynamic_ranges(graph)
        self.values |= self.settled
        self.uncounted: Counter[str] = Counter()
        self.free: Counter[str] = Counter()
        self.rounded = self.shared = self.image_bits = 0
        self._integer = False
        self._read: set[str] = set()
        self.input_scales: dict[str, None] = {}

    def constant(self, name: str) -> Constant | None:
        """Returns the constant of that name, if it is one."""
        if name in self.graph.tensors and name not in self.constants:
            bits = width(self.graph.tensors[name].data_type)
            self.constants[name] = Constant(self.graph.array(name), bits, name)
        return self.constants.get(name)

    def value(self, name: str) -> Value:
        """Returns what is known of a value that passes."""
        return self.values.get(name) or self.plain(name)

    def plain(self, name: str) -> Value:
        """Returns what the type alone tells of a value."""
        return Value(width(self.graph.kinds.get(name) or TensorProto.FLOAT))

    def merged(self, node: NodeProto) -> Value:
        """Returns what is known of a value that is made of all that a node reads of the image."""
        read = [self.values[name] for name in node.input if name in self.values]
        scales = dict.fromkeys(scale for value in read for scale in value.scales)
        return Value(
            max(value.bits for value in read),
            quantized=any(value.quantized for value in read),
            image=all(value.image for value in read),
            scales=tuple(scales),
        )

    def add_row(
        self,
        node: NodeProto,
        kind: str,
        stored: Sequence[tuple[Role, Constant]] = (),
        *,
        macs: int = 0,
        window: int = 1,
        also: Iterable[Stored] = (),
    ) -> Value:
        """Adds the row of a node, and returns what is known of its output.

        What is `stored` comes with its scales; the weights of a product come first.
        """
        output, read = node.output[0], self.merged(node)
        name = printable(node.name or output)
        tensors = [self._store(name, role, constant) for role, constant in stored]
        widths = [read.bits, *(constant.bits for _, constant in stored)]
        weight_bits = activation_bits = max(widths)
        if kind in PRODUCTS:
            activation_bits, weight_bits, *_ = widths
            weights = stored[0][1]
            self._integer |= weights.is_integer or read.is_integer
            self.rounded += weights.rounded
            self.image_bits = read.bits if read.image else self.image_bits
            tensors += self.scales(name, "weight_scale", weights.scales)
        tensors += [*self.scales(name, "input_scale", read.scales), *also]
        outputs = self.graph.elements(output)
        self.rows[output] = Layer(
            name, kind, tuple(tensors), weight_bits, activation_bits, macs, outputs, window
        )
        return self.plain(output)

    def complete_row(self, node: NodeProto, before: str, summand: Constant) -> Value:
        """Adds to a row what the node after it adds to each channel."""
        row, output = self.rows.pop(before), node.output[0]
        name = printable(node.name or output)
        found = self._store(name, "bias", summand)
        stored = tuple(replace(t, layer=name) for t in (row.stored[0], found, *row.stored[1:]))
        kind = "norm" if row.kind == "scale" else row.kind
        self.rows[output] = replace(row, name=name, kind=kind, stored=stored)
        return self.plain(output)

    def _store(self, layer: str, role: Role, constant: Constant) -> Stored:
        self.shared += constant.source in self._read
        self._read.add(constant.source)
        shape = constant.array.shape
        return Stored(layer, role, shape, constant.bits, constant.nonzeros)

    def scales(self, layer: str, role: Role, names: Iterable[str]) -> list[Stored]:
        """Returns scales and zero points of integers, where no other row has them.

        A scale counts 16 bits where half precision holds it, because ONNX wants those of integers
        in the type of their product. A zero point counts where it is not zero.
        """
        found = []
        for name in names:
            constant = self.constant(name)
            if constant is None or name in self._read:
                continue
            self._read.add(name)
            values, bits = constant.array, constant.bits
            if is_integer(self.graph.kinds[name]):
                if not values.any():
                    continue
            elif _is_half(values):
                bits = min(bits, 16)
            found.append(Stored(layer, role, values.shape, bits, constant.nonzeros))
        return found

    def cost(self) -> Cost:
        """Returns the finished table.

        Where no layer is integer, what is no product counts at the width of the biases and norms
        that are stored, if it reads something wider. Scales that no layer reads are the last one's.
        """
        rows = list(self.rows.values())
        if not any(row.kind in PRODUCTS for row in rows):
            others = f", only {', '.join(self.uncounted)}" if self.uncounted else ""
            raise ValueError(f"found no convolution and no linear layer with its weights{others}")
        left = self.scales(rows[-1].name, "input_scale", self.input_scales)
        rows[-1] = replace(rows[-1], stored=(*rows[-1].stored, *left))
        rest = {t.bits for row in rows for t in row.stored if _is_rest(row, t)}
        most = max(rest | {16})
        for i, row in enumerate(rows):
            is_wider = row.kind not in PRODUCTS and row.bits > most
            if rest and is_wider and not self._integer:
                rows[i] = replace(row, weight_bits=most, activation_bits=most)
        stored = [t for row in rows for t in row.stored if t.role in ("weight", "bias")]
        return Cost(tuple(rows), sum(t.elements for t in stored), self._integer)


def _is_half(values: Array) -> bool:
    """Returns whether half precision holds each of these values."""
    with np.errstate(all="ignore"):
        return np.array_equal(values.astype(np.float16).astype(values.dtype), values)


def _is_rest(row: Layer, tensor: Stored) -> bool:
    return tensor.role == "bias" or (tensor.role == "weight" and row.kind not in PRODUCTS)
