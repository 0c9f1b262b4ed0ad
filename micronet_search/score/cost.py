"""The layer table: what a network stores and computes for one image.

`count` makes it from a network on the `meta` device, before training, with the nonzeros that the
sparsity promises. `Cost.measured` puts the nonzeros of the tensors as stored in their place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from micronet_search.config.network import Input
from micronet_search.network.layers import Add, Scale
from micronet_search.network.precision import Plan

KINDS: Mapping[type[nn.Module], str] = {
    nn.ReLU: "relu",
    nn.Sigmoid: "sigmoid",
    nn.Hardsigmoid: "sigmoid",
    nn.SiLU: "swish",
    nn.Hardswish: "swish",
    Add: "add",
    Scale: "scale",
}
"""The kinds of layers that store nothing and do the same to each element."""


@dataclass(frozen=True)
class Stored:
    """One tensor of the shipped network.

    Attributes:
        name: As in the file of the shipped network.
        elements: Zeros included.
        nonzeros: Elements that are not zero.
        bits: Width of one element.
    """

    name: str
    elements: int
    nonzeros: int
    bits: int

    @property
    def storage_bits(self) -> int:
        """Its bits when packed."""
        return self.packed(self.bits)

    def packed(self, bits: int) -> int:
        """The smaller of dense, and nonzeros with a bitmask, with so many bits an element.

        A single bit is a sign: zeros among signs are told by the mask alone.
        """
        if bits == 1 and self.nonzeros < self.elements:
            return self.nonzeros + self.elements
        return min(self.elements * bits, self.nonzeros * bits + self.elements)


@dataclass(frozen=True)
class Layer:
    """One row of the table.

    Attributes:
        name: Of the module.
        kind: conv, linear, norm, pool, add, scale, relu, sigmoid, swish.
        stored: Its tensors; the weights come first.
        weight_bits: Width of the weights; of a row without any, of what passes.
        activation_bits: Width of the input.
        macs: Multiply-accumulates of convolutions and linear layers for one image.
        outputs: Elements that it puts out for one image.
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
        """The wider of weights and input: the width of its multiplications."""
        return max(self.weight_bits, self.activation_bits)

    @property
    def has_bias(self) -> bool:
        """Whether a bias is added to each output."""
        return any(t.name.endswith(".bias") for t in self.stored)

    def to_json(self) -> dict[str, Any]:
        """The row as plain values; `weights` counts all its stored elements."""
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
    """What a network needs.

    Attributes:
        layers: In the order in which the image passes.
        parameters: Of the network before norms are folded.
        integer: Whether some layer is integer.
    """

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
        return sum(t.nonzeros for t in self.stored)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def storage_bits(self) -> int:
        """Bits of the packed network."""
        return sum(t.storage_bits for t in self.stored)

    def measured(self, tensors: Mapping[str, Tensor]) -> Cost:
        """The same table with the nonzeros of the given tensors, which must be the stored ones."""
        found = {name: t.numel() for name, t in tensors.items()}
        expected = {t.name: t.elements for t in self.stored}
        assert found == expected, set(found.items()) ^ set(expected.items())

        def recount(t: Stored) -> Stored:
            return replace(t, nonzeros=int(torch.count_nonzero(tensors[t.name])))

        layers = tuple(
            replace(layer, stored=tuple(map(recount, layer.stored))) for layer in self.layers
        )
        return replace(self, layers=layers)


def count(
    network: nn.Module, image: Input, plan: Plan, *, sparsity: Mapping[str, float], parameters: int
) -> Cost:
    """Counts a network by passing one image through it.

    Args:
        network: Plain modules, norms folded where they will be; best on the `meta` device.
        image: Shape of the image.
        plan: The width of each layer.
        sparsity: Fraction of a convolution's or linear layer's weights that will be zero, by its
            name; 0 where it has none.
        parameters: Of the network before folding.
    """
    rows: list[Layer] = []
    handles = [
        module.register_forward_hook(_row_hook(rows, name, plan, sparsity.get(name, 0.0)))
        for name, module in network.named_modules()
        if not list(module.children())
    ]
    device = next(network.parameters()).device
    training = network.training
    try:
        with torch.no_grad():
            shape = (1, image.channels, image.height, image.width)
            network.eval()(torch.zeros(shape, device=device))
    finally:
        network.train(training)
        for handle in handles:
            handle.remove()
    return Cost(tuple(rows), parameters, integer=plan.integer)


def _row_hook(rows: list[Layer], name: str, plan: Plan, sparsity: float) -> Any:
    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        row = _row(module, name, plan, sparsity, inputs[0], output)
        if row is not None:
            rows.append(row)

    return hook


def _row(
    module: nn.Module, name: str, plan: Plan, sparsity: float, image: Tensor, output: Tensor
) -> Layer | None:
    rest = plan.rest_bits
    if isinstance(module, nn.Conv2d | nn.Linear):
        return _weighted(module, name, plan, sparsity, output)
    if isinstance(module, nn.BatchNorm2d):
        values = [
            Stored(f"{name}.{part}", module.num_features, module.num_features, rest)
            for part in ("weight", "bias")
        ]
        return Layer(name, "norm", tuple(values), rest, rest, 0, output.numel())
    if type(module) in KINDS:
        return Layer(name, KINDS[type(module)], (), rest, rest, 0, output.numel())
    if isinstance(module, nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        window = image.numel() // output.numel()
        return Layer(name, "pool", (), rest, rest, 0, output.numel(), window)
    assert isinstance(module, nn.Flatten | nn.Identity), f"{name}: {type(module).__name__}"
    return None


def _weighted(
    module: nn.Conv2d | nn.Linear, name: str, plan: Plan, sparsity: float, output: Tensor
) -> Layer:
    precision, rest = plan.layers[name], plan.rest_bits
    weights, channels = module.weight.numel(), module.weight.shape[0]
    # a tolerance, as in pruning
    nonzeros = weights - math.floor(sparsity * weights + 1e-9)
    stored = [Stored(f"{name}.weight", weights, nonzeros, precision.weight_bits)]
    if module.bias is not None:
        stored.append(Stored(f"{name}.bias", channels, channels, rest))
    if precision.scales_weights:
        stored.append(Stored(f"{name}.weight_scale", channels, channels, rest))
    if precision.stores_input_scale:
        stored.append(Stored(f"{name}.input_scale", 1, 1, rest))
    return Layer(
        name,
        "conv" if isinstance(module, nn.Conv2d) else "linear",
        tuple(stored),
        precision.weight_bits,
        precision.activation_bits,
        macs=output.numel() * module.weight[0].numel(),
        outputs=output.numel(),
    )
