"""The layer table: what a network stores and computes for one image.

`count` predicts it before training, and `Cost.measured` counts the nonzeros of stored tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from micronet_search.network.layers import Add, GlobalMean, Join, Scale
from micronet_search.network.precision import Plan
from micronet_search.network.shapes import Passed
from micronet_search.network.tensors import Stores, TensorSpec, stored_by_layer, stored_by_norm

KINDS: Mapping[type[nn.Module], str] = {
    nn.Conv2d: "conv",
    nn.Linear: "linear",
    nn.BatchNorm2d: "norm",
    nn.AvgPool2d: "pool",
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
    def value_bits(self) -> int:
        """The bits that tell its values apart.

        An element of one bit is a sign. Where some are zero there are three values, for which
        integers of two bits are the narrowest.
        """
        return 2 if self.bits == 1 and self.nonzeros < self.elements else self.bits

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
        weight_bits: Width of the weights of a product; without one, of what passes.
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

    @property
    def storage_bytes(self) -> int:
        """Bytes of the packed network, rounded up."""
        return -(-self.storage_bits // 8)

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
    layers: Sequence[Passed],
    plan: Plan,
    *,
    sparsity: Mapping[str, float],
    folded: Mapping[str, str],
) -> Cost:
    """Counts the layers that one image passes.

    `sparsity` has the fraction of zeros among a layer's weights, by name, where it is not 0, and
    `folded` has for each norm that folds the convolution that takes it in.
    """
    rows, biased = [], set(folded.values())
    for layer in layers:
        name, kind = layer.name, layer.part.kind
        if kind is Join or name in folded:  # which cost nothing
            continue
        stores: list[Stores] = []
        # beside integers, all else is stored in half precision and computed in single
        passing = 32 if plan.integer else plan.rest_bits
        widths, macs, window = (passing, passing), 0, 1
        pixels = layer.height * layer.width
        if shape := layer.part.weights:
            precision = plan.layers[name]
            widths = precision.weight_bits, precision.activation_bits
            macs = pixels * math.prod(shape)
            stores = stored_by_layer(
                name, shape, plan, bias=layer.part.options["bias"] or name in biased
            )
        elif kind is nn.BatchNorm2d:
            stores = stored_by_norm(layer.channels, plan)
        assert kind in KINDS, f"{name}: {kind.__name__}"
        if kind is nn.AvgPool2d:
            window = layer.part.options["kernel_size"] ** 2
        elif KINDS[kind] == "pool":  # the mean of whole channels
            window = layer.sources[0].height * layer.sources[0].width
        stored = tuple(_stored(name, s, sparsity.get(name, 0.0)) for s in stores)
        rows.append(
            Layer(name, KINDS[kind], stored, *widths, macs, layer.channels * pixels, window)
        )
    parameters = sum(layer.part.parameters for layer in layers)
    return Cost(tuple(rows), parameters, integer=plan.integer)


def _stored(name: str, stores: Stores, sparsity: float) -> Stored:
    elements = math.prod(stores[1])
    zeros = math.floor(sparsity * elements + 1e-9) if stores[0] == "weight" else 0  # as in pruning
    return Stored(name, *stores, elements - zeros)
