"""Which bit width each layer has, and what is then an integer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from micronet_search.config.compression import Quantization, Widths
from micronet_search.config.model import INTEGER

IMAGE_BITS = 8


@dataclass(frozen=True)
class Precision:
    """Bit widths of one convolution or linear layer.

    Attributes:
        weight_bits: Of the weights.
        activation_bits: Of the input; 8 for the image as it is.
        image: Whether the input is the image as it is, which takes no quantizer.
        dynamic: Whether the range of the input is computed from each image.
    """

    weight_bits: int
    activation_bits: int
    image: bool = False
    dynamic: bool = False

    @property
    def scales_weights(self) -> bool:
        """Whether the weights are integers, with a scale for each output channel."""
        return self.weight_bits <= INTEGER

    @property
    def scales_input(self) -> bool:
        """Whether the input goes through an integer quantizer."""
        return self.activation_bits <= INTEGER and not self.image

    @property
    def stores_input_scale(self) -> bool:
        """Whether the scale of the input is a stored tensor."""
        return self.scales_input and not self.dynamic


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


def part_of(name: str) -> str:
    """The part of a network that a layer is in: `block1` for `block1.0.conv`."""
    return name.split(".", 1)[0]


def layer_sets_of(name: str, names: Sequence[str]) -> set[str]:
    """Returns the sets of layers that a layer belongs to: its block, `first`, `last`.

    Args:
        name: Of the layer.
        names: Of all layers, first to last. What shares the part of the first one is first, what
            shares that of the last one last, because factors of a layer lie there.
    """
    part = part_of(name)
    found = {part} if part.startswith("block") else set()
    found |= {"first"} if part == part_of(names[0]) else set()
    return found | ({"last"} if part == part_of(names[-1]) else set())


def plan(quantization: Quantization | None, names: Iterable[str]) -> Plan:
    """The widths that a candidate asks for.

    Args:
        quantization: Its field; None is 32 bits everywhere.
        names: Of the convolutions and linear layers, first to last.
    """
    names = list(names)
    if quantization is None:
        quantization = Quantization(weight_bits=32, activation_bits=32)
    dynamic = quantization.mode == "dynamic"
    layers: dict[str, Precision] = {}
    for name in names:
        weight: int = quantization.weight_bits
        activation: int = quantization.activation_bits
        for apart in _set_apart(quantization, name, names):
            weight = apart.weight_bits or weight
            activation = apart.activation_bits or activation
        if name == names[0]:
            asked: int = quantization.first.activation_bits or IMAGE_BITS
            image, activation = asked >= IMAGE_BITS, min(asked, IMAGE_BITS)
            layers[name] = Precision(weight, activation, image, dynamic and not image)
        else:
            layers[name] = Precision(weight, activation, dynamic=dynamic and activation <= INTEGER)
    asked_bits = [p.weight_bits for p in layers.values()]
    asked_bits += [p.activation_bits for p in layers.values() if not p.image]
    return Plan(layers, rest_bits=32 if min(asked_bits) == 32 else 16)


def _set_apart(quantization: Quantization, name: str, names: list[str]) -> list[Widths]:
    """The widths that are asked for some layers and hold for this one, the last ones over all."""
    groups = layer_sets_of(name, names)
    found = [widths for block, widths in quantization.blocks.items() if block in groups]
    found += [quantization.last] if "last" in groups else []
    found += [quantization.first] if "first" in groups else []
    return found
