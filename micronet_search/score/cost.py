"""The layer table: what a network stores and computes for one image.

`count` predicts it before training, and `Cost.measured` counts the nonzeros of stored tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from micronet_search.config.network import Input
from micronet_search.network.layers import Add, GlobalMean, Scale
from micronet_search.network.precision import Plan
from micronet_search.network.shapes import passes
from micronet_search.network.tensors import TensorSpec, layer_specs

KINDS: Mapping[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm2d: "norm",
    nn.AvgPool2d: "pool",
    nn.AdaptiveAvgPool2d: "pool",
    GlobalMean: "pool",
    Add: "add",
    Scale: "scale",
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "sigmoid",
    nn.SiLU: "swish",
    nn.Hardswish: "swish",
}
"""The modules that cost something, and what a rule calls them."""


@dataclass(frozen=True)
class Stored(TensorSpec):
    """A stored tensor with the number of its elements that are not zero."""

    nonzeros: int

    @property
    def storage_bits(self) -> int:
        """Its bits when packed."""
        return self.packed(self.bits)

    def packed(self, bits: int) -> int:
        """Returns the bits of the packed tensor, with that many bits an element.

        It is packed dense, or as its nonzeros and a mask of one bit an element, whichever is less.
        An element of one bit is a sign and cannot be zero, so that only a mask tells zeros.
        """
        if bits == 1 and self.nonzeros < self.elements:
            return self.nonzeros + self.elements
        return min(self.elements * bits, self.nonzeros * bits + self.elements)


@dataclass(frozen=True)
class Layer:
    """One row of the table, for one image.

    Attributes:
        kind: One of the values of `KINDS`.
        stored: Its tensors; the weights come first.
        weight_bits: Width of the weights; without any, of what passes.
        macs: Multiply-accumulates of a convolution or linear layer.
        outputs: Elements of its output.
        window: Input elements that each output of a pool is the mean of; 1 elsewhere.
    """

    name: str
    kind: str
    stored: tuple[Stored, ...]
    weight_bits: int
    activation_bits: int
    macs: int
    outputs: int
    window: int = 1

    @property
    def elements(self) -> int:
        """Stored elements, zeros included."""
        return sum(t.elements for t in self.stored)

    @property
    def nonzeros(self) -> int:
        """Stored elements that are not zero."""
        return sum(t.nonzeros for t in self.stored)

    @property
    def bits(self) -> int:
        """The width of its multiplications: the wider of weights and input."""
        return max(self.weight_bits, self.activation_bits)

    def to_json(self) -> dict[str, Any]:
        """Returns the row as plain values; `weights` counts all its stored elements."""
        return {
            "name": self.name,
            "kind": self.kind,
            "weights": self.elements,
            "nonzeros": self.nonzeros,
            "weight_bits": self.weight_bits,
            "activation_bits": self.activation_bits,
            "macs": self.macs,
        }


@dataclass(frozen=True)
class Cost:
    """What a network needs: its layers, the parameters before folding, whether one is integer."""

    layers: tuple[Layer, ...]
    parameters: int
    integer: bool

    @property
    def stored(self) -> tuple[Stored, ...]:
        """Every stored tensor."""
        return tuple(t for layer in self.layers for t in layer.stored)

    @property
    def nonzeros(self) -> int:
        """Stored elements that are not zero."""
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def storage_bits(self) -> int:
        """Bits of the packed network."""
        return sum(t.storage_bits for t in self.stored)

    def totals(self) -> dict[str, int]:
        """Returns the figures of the whole network by the names that files and tables use."""
        names = ("parameters", "nonzeros", "macs", "storage_bits")
        return {name: getattr(self, name) for name in names}

    def measured(self, tensors: Mapping[str, Tensor]) -> Cost:
        """Returns the same table with the nonzeros of the stored tensors, given by name."""
        found = {name: t.numel() for name, t in tensors.items()}
        expected = {t.name: t.elements for t in self.stored}
        assert found == expected, set(found.items()) ^ set(expected.items())

        layers = []
        for row in self.layers:
            counts = [int(tensors[t.name].count_nonzero()) for t in row.stored]
            stored = (replace(t, nonzeros=n) for t, n in zip(row.stored, counts, strict=True))
            layers.append(replace(row, stored=tuple(stored)))
        return replace(self, layers=tuple(layers))


def count(
    network: nn.Module, image: Input, plan: Plan, *, sparsity: Mapping[str, float], parameters: int
) -> Cost:
    """Counts a network of plain modules, norms folded where they will be, for one image.

    `sparsity` has the fraction of zeros among a layer's weights, by name, where it is not 0, and
    `parameters` are those of the network before folding.
    """
    rows = []
    for name, module, read, made in passes(network, image):
        if isinstance(module, nn.Flatten | nn.Identity):  # which cost nothing
            continue
        assert type(module) in KINDS, f"{name}: {type(module).__name__}"
        kind, outputs = KINDS[type(module)], made.numel()
        widths, macs = (plan.rest_bits, plan.rest_bits), 0
        if isinstance(module, nn.Conv2d | nn.Linear):
            precision, macs = plan.layers[name], outputs * module.weight.shape[1:].numel()
            widths = precision.weight_bits, precision.activation_bits
        stored = []
        for t in layer_specs(name, module, plan):
            share = sparsity.get(name, 0.0) if t.role == "weight" else 0.0
            zeros = math.floor(share * t.elements + 1e-9)  # a tolerance, as in pruning
            stored.append(Stored(**vars(t), nonzeros=t.elements - zeros))
        window = read.numel() // outputs if kind == "pool" else 1
        rows.append(Layer(name, kind, tuple(stored), *widths, macs, outputs, window))
    return Cost(tuple(rows), parameters, integer=plan.integer)
