"""DenseNet-BC for small images (Huang et al., 2017), with grouped convolutions."""

import math

from torch import Tensor, nn

from micronet_search.config.blocks import round_up
from micronet_search.config.network import DenseNet
from micronet_search.network import layers
from micronet_search.network.layers import IDENTITY, RELU, Join, convolution, norm
from micronet_search.network.parts import Composite, Part, chain, sequential


class DenseLayer(Composite):
    """Appends new channels to an image: a 1x1 bottleneck and a convolution, after norm and ReLU."""

    def forward(self, image: Tensor) -> Tensor:
        """Returns (N, C + growth rate, H, W) from an image (N, C, H, W)."""
        new = self.conv(self.relu(self.norm(self.bottleneck(image))))
        joined: Tensor = self.join(image, new)
        return joined


def describe(config: DenseNet, channels: int, classes: int) -> Part:
    """Describes a network, as `family.describe` does.

    The width after a transition is rounded up to what the next convolutions and its own divide.
    """
    width, last = config.stem.width, config.blocks - 1
    parts = {"stem": layers.stem(config.stem, channels)}
    for block, count in enumerate(config.layers):
        dense: dict[str, Part] = {}
        for layer in range(count):
            dense[str(layer)] = _layer(width, config, block)
            width += config.growth_rate
        if block < last:
            groups = config.pointwise_groups[block]
            multiple = math.lcm(config.groups_reading(block + 1), groups)
            kept = round_up(int(width * config.compression), multiple)
            pool = Part(nn.AvgPool2d, {"kernel_size": 2})
            dense["transition"] = chain(*_activated(width, kept, groups), pool)
            width = kept
        parts[f"block{block + 1}"] = sequential(dense)
    parts |= {"norm": norm(width), "relu": RELU}
    return layers.with_classifier(parts, width, classes)


def _layer(channels: int, config: DenseNet, block: int) -> Part:
    """Describes a dense layer that reads an image of that many channels."""
    growth, bottleneck = config.growth_rate, IDENTITY
    if config.bottleneck:
        width = config.bottleneck * growth
        bottleneck = chain(*_activated(channels, width, config.pointwise_groups[block]))
        channels = width
    groups, kind, between = config.groups[block], config.convolution, config.between
    conv = convolution(channels, growth, 3, groups=groups, kind=kind, between=between)
    parts = {"bottleneck": bottleneck, "norm": norm(channels), "relu": RELU, "conv": conv}
    return Part(DenseLayer, children={**parts, "join": Part(Join)})


def _activated(channels: int, width: int, groups: int) -> tuple[Part, Part, Part]:
    """Describes a norm, a ReLU and a 1x1 convolution."""
    return norm(channels), RELU, convolution(channels, width, 1, groups=groups)
