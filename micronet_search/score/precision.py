"""Which bit width each layer has, and what is then an integer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from micronet_search.config.candidate import Quantization

INTEGER = 8
"""The widest integer; wider values are half (16) or single (32) precision."""
IMAGE_BITS = 8


@dataclass(frozen=True)
class Precision:
    """Bit widths of one convolution or linear layer.

    Attributes:
        weight_bits: Of the weights.
        activation_bits: Of the input; 8 for the image as it is.
        image: Whether the input is the image as it is, which takes no quantizer.
    """

    weight_bits: int
    activation_bits: int
    image: bool = False

    @property
    def scales_weights(self) -> bool:
        """Whether the weights are integers, with a scale for each output channel."""
        return self.weight_bits <= INTEGER

    @property
    def scales_input(self) -> bool:
        """Whether the input goes through an integer quantizer, with a scale of its own."""
        return self.activation_bits <= INTEGER and not self.image


@dataclass(frozen=True)
class Plan:
    """The widths of a whole network.

    Attributes:
        layers: By name, in the order in which the image passes.
        rest_bits: Width of all else: biases, scales, norms and what passes between layers.
    """

    layers: dict[str, Precision]
    rest_bits: int

    @property
    def integer(self) -> bool:
        """Whether some layer is integer, so that the network has something to learn of it."""
        return any(p.scales_weights or p.scales_input for p in self.layers.values())


def layers_of(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """The convolutions and linear layers by name, in the order of their registration."""
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def plan(quantization: Quantization | None, names: Iterable[str]) -> Plan:
    """The widths that a candidate asks for.

    Args:
        quantization: Its field; None is 32 bits everywhere.
        names: Of the convolutions and linear layers, first to last.
    """
    names = list(names)
    if quantization is None:
        quantization = Quantization(weight_bits=32, activation_bits=32)
    layers: dict[str, Precision] = {}
    for name in names:
        weight, activation = quantization.weight_bits, quantization.activation_bits
        if name == names[-1]:
            weight = quantization.last.weight_bits or weight
            activation = quantization.last.activation_bits or activation
        if name == names[0]:
            weight = quantization.first.weight_bits or weight
            asked = quantization.first.activation_bits or IMAGE_BITS
            layers[name] = Precision(weight, min(asked, IMAGE_BITS), image=asked >= IMAGE_BITS)
        else:
            layers[name] = Precision(weight, activation)
    asked_bits = [p.weight_bits for p in layers.values()]
    asked_bits += [p.activation_bits for p in layers.values() if not p.image]
    return Plan(layers, rest_bits=32 if min(asked_bits) == 32 else 16)
