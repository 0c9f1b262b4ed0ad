"""ResNet for small images (He et al., 2015), with grouped and separable convolutions."""

from __future__ import annotations

from torch import nn

from micronet_search.config.network import ResNet
from micronet_search.network import layers
from micronet_search.network.layers import Residual, convolution, normed

BOTTLENECK = 4
"""How many times wider a bottleneck layer puts out than its 3x3 convolution is."""


def build(config: ResNet, channels: int, classes: int) -> nn.Sequential:
    """The network, freshly initialised.

    Args:
        config: Its widths.
        channels: Of the image.
        classes: Of the output, which is (N, classes).
    """
    width = config.stem.width
    parts: dict[str, nn.Module] = {
        "stem": normed(layers.stem(config.stem, channels), width, "relu")
    }
    for block, count in enumerate(config.layers):
        residuals = []
        for layer in range(count):
            stride = 2 if block and not layer else 1
            body, leaving = _body(config, block, width, stride)
            shortcut = _shortcut(width, leaving, stride)
            residuals.append(Residual(body, shortcut, nn.ReLU()))
            width = leaving
        parts[f"block{block + 1}"] = nn.Sequential(*residuals)
    network = layers.sequential(parts | layers.classifier(width, classes))
    layers.initialise(network)
    return network


def _body(config: ResNet, block: int, channels: int, stride: int) -> tuple[nn.Sequential, int]:
    """The convolutions of a layer that reads so many channels, and the channels it puts out."""
    width, groups, kind = config.widths[block], config.groups[block], config.convolution
    if config.layer == "basic":
        first = convolution(channels, width, 3, stride, groups, kind)
        second = convolution(width, width, 3, 1, groups, kind)
        return nn.Sequential(normed(first, width, "relu"), normed(second, width, None)), width
    leaving = BOTTLENECK * width
    body = nn.Sequential(
        normed(convolution(channels, width, 1), width, "relu"),
        normed(convolution(width, width, 3, stride, groups, kind), width, "relu"),
        normed(convolution(width, leaving, 1), leaving, None),
    )
    return body, leaving


def _shortcut(channels: int, width: int, stride: int) -> nn.Module:
    """The image as it is, or a projection where a layer changes its shape."""
    if channels == width and stride == 1:
        return nn.Identity()
    return normed(convolution(channels, width, 1, stride), width, None)
