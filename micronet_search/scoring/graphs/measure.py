"""The cost of a network in an ONNX file.

Every node is visited once, in the order of computation, and makes the rows that a candidate's
layers have. What is stored are integers, their scales and zero points where the graph rounds to
integers. Before the first layer, arithmetic with constants is the image's normalisation, which
costs nothing.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from onnx import NodeProto

from micronet_search.network.precision import IMAGE_BITS
from micronet_search.scoring.cost import Cost
from micronet_search.scoring.graphs.file import operator
from micronet_search.scoring.graphs.graph import read
from micronet_search.scoring.graphs.operators import OPERATORS
from micronet_search.scoring.graphs.table import PRODUCTS, Table
from micronet_search.scoring.graphs.values import FOLDS

SHAPES = ("Shape", "Size")


@dataclass(frozen=True)
class Measured:
    """The cost of a network as a file has it.

    Attributes:
        cost: The layer table.
        uncounted: How many nodes there are of each operator whose cost is not known.
        notes: What the file does not tell, and what was made of it, a line each.
    """

    cost: Cost
    uncounted: dict[str, int]
    notes: tuple[str, ...]


def measure(path: str | Path) -> Measured:
    """Counts the layers of a network in an ONNX file.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged, or holds no network for one image.
    """
    graph = read(path)
    try:
        table = Table(graph)
        for node in graph.nodes:
            _visit(table, node)
        return Measured(table.cost(), dict(table.uncounted), tuple(_notes(table)))
    except UnicodeDecodeError:
        raise ValueError(f"{path}: damaged: a name is no text") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (LookupError, TypeError, ArithmeticError) as error:  # an attribute that cannot be
        raise ValueError(f"{path}: damaged, or not valid as ONNX") from error


def _visit(table: Table, node: NodeProto) -> None:
    """Counts a node after those whose outputs it reads."""
    name, output = operator(node), node.output[0]
    if output in table.settled:
        return
    constants = [table.constant(each) for each in node.input]
    if name in FOLDS and all(c or not each for c, each in zip(constants, node.input, strict=True)):
        table.constants[output] = FOLDS[name](table.graph, node, constants)
        return
    # the rest follows from constants and shapes, and is there before any image
    if name in SHAPES or not any(each in table.values for each in node.input):
        return
    found = OPERATORS[name](table, node) if name in OPERATORS else None
    if found is None:
        table.uncounted[name] += 1
    for each in filter(None, node.output):
        if table.graph.readers.get(each):
            table.graph.shape(each)  # without which nothing after it can be counted
        table.values[each] = found or table.plain(each)


def _notes(table: Table) -> Iterator[str]:
    if table.uncounted:
        yield f"cannot be counted: {_listed(table.uncounted)}; so every score is a lower bound"
    if table.free:
        yield f"the rules count nothing for {_listed(table.free)}"
    if table.image_bits > IMAGE_BITS:
        yield f"the image has {table.image_bits} bits in this file, where {IMAGE_BITS} may do"
    if table.rounded:
        yield "weights in floats that the graph rounds to integers count as these integers"
    if table.shared:
        yield "tensors that several layers read count for each of them"
    if any(row.weight_bits in (2, 4, 8) for row in table.rows.values() if row.kind in PRODUCTS):
        yield "integer weights count the bits of their type, where nothing in the file narrows it"
    yield "parameters and zeros are those in the file: what was folded or cut before is not known"


def _listed(counts: Counter[str]) -> str:
    nodes = (f"{n} node{'s' if n > 1 else ''}" for n in counts.values())
    return ", ".join(f"{name} ({text})" for name, text in zip(counts, nodes, strict=True))
