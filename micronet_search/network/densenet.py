"""DenseNet-BC for small images (Huang et al., 2017), with grouped convolutions."""

import math

import torch
from torch import Tensor, nn

from micronet_search.config.blocks import round_up
from micronet_search.config.network import DenseNet
from micronet_search.network import layers
from micronet_search.network.layers import convolution


class DenseLayer(nn.Module):
    """Appends new channels to an image: a 1x1 bottleneck and a convolution, after norm and ReLU."""

    def __init__(self, channels: int, config: DenseNet, block: int) -> None:
        super().__init__()
        growth, groups = config.growth_rate, config.groups[block]
        self.bottleneck: nn.Module = nn.Identity()
        if config.bottleneck:
            width = config.bottleneck * growth
            self.bottleneck = _activated(channels, width, config.pointwise_groups[block])
            channels = width
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = convolution(
            channels, growth, 3, groups=groups, kind=config.convolution, between=config.between
        )

    def forward(self, image: Tensor) -> Tensor:
        """Returns (N, C + growth rate, H, W) from an image (N, C, H, W)."""
        return torch.cat([image, self.conv(self.relu(self.norm(self.bottleneck(image))))], 1)


def build(config: DenseNet, channels: int, classes: int) -> nn.Sequential:
    """Builds a network, as `family.build` does.

    The width after a transition is rounded up to what the next convolutions and its own divide.
    """
    width, last = config.stem.width, config.blocks - 1
    parts: dict[str, nn.Module] = {"stem": layers.stem(config.stem, channels)}
    for block, count in enumerate(config.layers):
        dense: dict[str, nn.Module] = {}
        for layer in range(count):
            dense[str(layer)] = DenseLayer(width, config, block)
            width += config.growth_rate
        if block < last:
            groups = config.pointwise_groups[block]
            multiple = math.lcm(config.groups_reading(block + 1), groups)
            kept = round_up(int(width * config.compression), multiple)
            dense["transition"] = _activated(width, kept, groups).append(nn.AvgPool2d(2))
            width = kept
        parts[f"block{block + 1}"] = layers.sequential(dense)
    parts |= {"norm": nn.BatchNorm2d(width), "relu": nn.ReLU()}
    return layers.with_classifier(parts, width, classes)


def _activated(channels: int, width: int, groups: int) -> nn.Sequential:
    """Returns a norm, a ReLU and a 1x1 convolution."""
    return nn.Sequential(
        nn.BatchNorm2d(channels), nn.ReLU(), convolution(channels, width, 1, groups=groups)
    )
