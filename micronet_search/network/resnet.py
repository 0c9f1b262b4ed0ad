"""ResNet for small images (He et al., 2015), with grouped and separable convolutions."""

from functools import partial

from micronet_search.config.network import ResNet
from micronet_search.network import layers
from micronet_search.network.layers import IDENTITY, RELU, convolution, normed, residual
from micronet_search.network.parts import Part, chain

BOTTLENECK = 4
"""Output channels of a bottleneck layer for each channel of its 3x3 convolution."""


def describe(config: ResNet, channels: int, classes: int) -> Part:
    """Describes a network, as `family.describe` does."""
    width = config.stem.width
    parts = {"stem": normed(layers.stem(config.stem, channels), width, "relu")}
    for block, count in enumerate(config.layers):
        leaving = config.widths[block] * (BOTTLENECK if config.layer == "bottleneck" else 1)
        residuals = []
        for layer in range(count):
            stride = 2 if block and not layer else 1
            body = _body(config, block, width, stride)
            shortcut = IDENTITY
            if width != leaving or stride > 1:
                shortcut = normed(convolution(width, leaving, 1, stride), leaving, None)
            residuals.append(residual(body, shortcut, RELU))
            width = leaving
        parts[f"block{block + 1}"] = chain(*residuals)
    return layers.with_classifier(parts, width, classes)


def _body(config: ResNet, block: int, channels: int, stride: int) -> Part:
    """Describes the convolutions of a layer that reads an image of that many channels."""
    width, groups, kind = config.widths[block], config.groups[block], config.convolution
    filters = partial(convolution, groups=groups, kind=kind, between=config.between)
    if config.layer == "basic":
        first = filters(channels, width, 3, stride)
        second = filters(width, width, 3)
        return chain(normed(first, width, "relu"), normed(second, width, None))
    leaving = BOTTLENECK * width
    return chain(
        normed(convolution(channels, width, 1), width, "relu"),
        normed(filters(width, width, 3, stride), width, "relu"),
        normed(convolution(width, leaving, 1), leaving, None),
    )
