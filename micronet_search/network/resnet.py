"""ResNet for small images (He et al., 2015), with grouped and separable convolutions."""

from functools import partial

from torch import nn

from micronet_search.config.network import ResNet
from micronet_search.network.layers import Residual, convolution, normed, stem, with_classifier

BOTTLENECK = 4
"""Output channels of a bottleneck layer for each channel of its 3x3 convolution."""


def build(config: ResNet, channels: int, classes: int) -> nn.Sequential:
    """Builds a network, as `family.build` does."""
    width = config.stem.width
    parts: dict[str, nn.Module] = {"stem": normed(stem(config.stem, channels), width, "relu")}
    for block, count in enumerate(config.layers):
        leaving = config.widths[block] * (BOTTLENECK if config.layer == "bottleneck" else 1)
        residuals = []
        for layer in range(count):
            stride = 2 if block and not layer else 1
            body = _body(config, block, width, stride)
            shortcut: nn.Module = nn.Identity()
            if width != leaving or stride > 1:
                shortcut = normed(convolution(width, leaving, 1, stride), leaving, None)
            residuals.append(Residual(body, shortcut, nn.ReLU()))
            width = leaving
        parts[f"block{block + 1}"] = nn.Sequential(*residuals)
    return with_classifier(parts, width, classes)


def _body(config: ResNet, block: int, channels: int, stride: int) -> nn.Sequential:
    """Makes the convolutions of a layer that reads an image of that many channels."""
    width, groups, kind = config.widths[block], config.groups[block], config.convolution
    filters = partial(convolution, groups=groups, kind=kind, between=config.between)
    if config.layer == "basic":
        first = filters(channels, width, 3, stride)
        second = filters(width, width, 3)
        return nn.Sequential(normed(first, width, "relu"), normed(second, width, None))
    leaving = BOTTLENECK * width
    return nn.Sequential(
        normed(convolution(channels, width, 1), width, "relu"),
        normed(filters(width, width, 3, stride), width, "relu"),
        normed(convolution(width, leaving, 1), leaving, None),
    )
