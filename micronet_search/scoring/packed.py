"""The cost of a network in a packed file."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

from micronet_search import mnz
from micronet_search.config.model import INTEGER
from micronet_search.network.tensors import Role
from micronet_search.scoring.cost import Cost, Layer, Stored

KINDS = {
    "conv": "conv",
    "linear": "linear",
    "norm": "norm",
    "relu": "relu",
    "silu": "swish",
    "hard-swish": "swish",
    "sigmoid": "sigmoid",
    "hard-sigmoid": "sigmoid",
    "average-pool": "pool",
    "global-mean": "pool",
    "add": "add",
    "scale": "scale",
}
"""The operations that cost something, and what a rule calls them."""


def measure(path: str | Path) -> Cost:
    """Counts the layers of a network in a packed file.

    What was folded or removed before is not known: the parameters are those that are stored.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged.
    """
    model = mnz.load(path)
    integer = any(map(_is_integer, model.nodes))
    passing = 32 if integer else model.rest_bits
    rows = tuple(_rows(model, passing))
    stored = (t for row in rows for t in row.stored if t.role in ("weight", "bias"))
    return Cost(rows, sum(t.elements for t in stored), integer)


def _is_integer(node: mnz.Node) -> bool:
    """Returns whether a node has integer weights, or rounds its input to integers."""
    if not node.weights:
        return False
    rounds = node.dynamic or "input_scale" in node.stored
    return rounds or node.stored["weight"][1] <= INTEGER


def _rows(model: mnz.Model, passing: int) -> Iterator[Layer]:
    """Yields the rows of the table; `passing` is the width of what passes between products."""
    shapes = [model.image, *(node.shape for node in model.nodes)]
    for number, node in enumerate(model.nodes, 1):
        if node.operation not in KINDS:
            continue
        name, stored = f"{number}.{node.operation}", []
        for role in filter(node.stored.__contains__, get_args(Role)):
            nonzeros = int(np.count_nonzero(node.tensors[role]))
            stored.append(Stored(name, role, *node.stored[role], nonzeros))
        widths, window = (passing, passing), 1
        if node.weights:
            widths = stored[0].bits, node.input_bits
        if KINDS[node.operation] == "pool":
            is_whole = node.operation == "global-mean"
            window = math.prod(shapes[node.sources[0]][1:]) if is_whole else node.kernel**2
        outputs = math.prod(node.shape)
        yield Layer(name, KINDS[node.operation], tuple(stored), *widths, node.macs, outputs, window)
