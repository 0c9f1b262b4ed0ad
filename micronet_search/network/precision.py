"""Which bit width each layer has, and what is then an integer."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from micronet_search.config.compression import Quantization
from micronet_search.config.model import INTEGER

IMAGE_BITS = 8


@dataclass(frozen=True)
class Precision:
    """Bit widths of a layer, whose input may be the `image` as it is, or in range `dynamic`."""

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
    """The widths of a network's layers, by name, and of all else: biases, scales, norms, sums."""

    layers: dict[str, Precision]
    rest_bits: int

    @property
    def integer(self) -> bool:
        """Whether some layer is integer."""
        return any(p.scales_weights or p.scales_input for p in self.layers.values())


def layers_of(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Returns the convolutions and linear layers by name, in the order of their registration."""
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}


def part_of(name: str) -> str:
    """Returns the part of the network that holds a layer: `block1` for `block1.0.conv`."""
    return name.split(".", 1)[0]


def layer_sets_of(name: str, names: Sequence[str]) -> set[str]:
    """Returns the sets of layers that a layer belongs to: its block, `first`, `last`.

    Of the names of all layers, first to last, every one in the part of the first is `first`, and
    every one in the part of the last is `last`, because these may be factors.
    """
    part = part_of(name)
    sets = {part: part.startswith("block")}
    sets |= {"first": part == part_of(names[0]), "last": part == part_of(names[-1])}
    return {layer_set for layer_set, belongs in sets.items() if belongs}


def plan(quantization: Quantization | None, names: Iterable[str]) -> Plan:
    """Returns the widths of the layers, named first to last; without quantization 32 bits."""
    if quantization is None:
        quantization = Quantization(weight_bits=32, activation_bits=32)
    first, *others = names = list(names)
    layers = {first: _precision(quantization, layer_sets_of(first, names), reads_image=True)}
    sets = {part_of(name): layer_sets_of(name, names) for name in others}
    widths = {part: _precision(quantization, found) for part, found in sets.items()}
    layers |= {name: widths[part_of(name)] for name in others}
    asked = [p.weight_bits for p in layers.values()]
    asked += [p.activation_bits for p in layers.values() if not p.image]
    return Plan(layers, rest_bits=32 if min(asked) == 32 else 16)


def _precision(
    quantization: Quantization, layer_sets: Collection[str], *, reads_image: bool = False
) -> Precision:
    weight, activation = int(quantization.weight_bits), int(quantization.activation_bits)
    # in the order in which they override each other
    apart = quantization.blocks | {"last": quantization.last, "first": quantization.first}
    for widths in (widths for layer_set, widths in apart.items() if layer_set in layer_sets):
        weight = widths.weight_bits or weight
        activation = widths.activation_bits or activation
    if reads_image:
        activation = min(quantization.first.activation_bits or IMAGE_BITS, IMAGE_BITS)
    image = reads_image and activation == IMAGE_BITS
    dynamic = quantization.mode == "dynamic" and activation <= INTEGER and not image
    return Precision(weight, activation, image, dynamic)
