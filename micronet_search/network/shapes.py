"""What passes through a network, by its description alone: no module and no tensor is made.

Torch finds the shapes too, on its `meta` device. But that takes up to 2 ms a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from torch import nn

from micronet_search.config.network import Input
from micronet_search.network.layers import ACTIVATIONS, Add, GlobalMean, Join, Scale
from micronet_search.network.parts import Part

_SAME = {*ACTIVATIONS.values(), nn.Sigmoid, nn.Hardsigmoid, nn.BatchNorm2d, Add, Scale}
"""The layers whose output has the shape of their first input."""
_NOTHING = {nn.Identity, nn.Flatten}
"""The layers that do nothing: what a classifier reads is one pixel."""

_WEIGHTED = {nn.Conv2d, nn.Linear}


@dataclass(slots=True, eq=False)
class Passed:
    """A plain layer that an image has passed, the size of its output, and what it has read.

    The image counts as a layer that has read nothing.
    """

    name: str
    part: Part
    sources: tuple[Passed, ...]
    channels: int
    height: int
    width: int


class _Inside(SimpleNamespace):
    """What a composite's `forward` calls by name, and a sequence's one after the other."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__dict__.values())


def passes(network: Part, image: Input) -> list[Passed]:
    """Returns the plain layers of a network in the order in which one image passes them."""
    found: list[Passed] = []

    def run(name: str, part: Part, *images: Passed) -> Passed:
        if part.children:
            inside = f"{name}." if name else ""
            calls = {n: partial(run, inside + n, child) for n, child in part.children.items()}
            forward: Any = part.kind.forward
            output: Passed = forward(_Inside(**calls), *images)
            return output
        if part.kind in _NOTHING:
            return images[0]
        layer = _passed(name, part, images)
        found.append(layer)
        return layer

    pixels = Passed("", Part(nn.Identity), (), image.channels, image.height, image.width)
    run("", network, pixels)
    return found


def _passed(name: str, part: Part, sources: tuple[Passed, ...]) -> Passed:
    kind, options, read = part.kind, part.options, sources[0]
    channels, height, width = read.channels, read.height, read.width
    if kind is nn.Conv2d or kind is nn.AvgPool2d:
        kernel = options["kernel_size"]
        stride, less = options.get("stride", kernel), kernel - 2 * options.get("padding", 0)
        height, width = (height - less) // stride + 1, (width - less) // stride + 1
        channels = options.get("out_channels", channels)
    elif kind is GlobalMean:
        height = width = 1
    elif kind is nn.Linear:
        assert height == width == 1, f"{name} reads more than one pixel"
        channels = options["out_features"]
    elif kind is Join:
        channels += sources[1].channels
    else:
        assert kind in _SAME, f"{name}: {kind.__name__}"
    return Passed(name, part, sources, channels, height, width)


def replace(layers: Sequence[Passed], parts: Mapping[str, Part]) -> list[Passed]:
    """Puts other plain layers, or chains of them, in the place of some, which are given by name."""
    image = layers[0].sources[0]
    found, now = list[Passed](), {image: image}
    for layer in layers:
        part, read = parts.get(layer.name, layer.part), tuple([now[s] for s in layer.sources])
        for number, plain in (part.children or {"": part}).items():
            name = f"{layer.name}.{number}" if number else layer.name
            now[layer] = _passed(name, plain, read)
            read = (now[layer],)
            found.append(now[layer])
    return found


def weighted(layers: Sequence[Passed]) -> dict[str, Part]:
    """Returns the convolutions and linear layers by name, in the order of the image."""
    return {layer.name: layer.part for layer in layers if layer.part.kind in _WEIGHTED}
