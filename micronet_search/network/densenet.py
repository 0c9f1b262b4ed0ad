"""DenseNet-BC for small images (Huang et al., 2017), with grouped convolutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from micronet_search.config.network import DenseNet, round_up
from micronet_search.network import layers
from micronet_search.network.layers import convolution


class DenseLayer(nn.Module):
    """Norm, ReLU and convolution, after a 1x1 bottleneck of the same make; adds its channels."""

    def __init__(self, channels: int, config: DenseNet, block: int) -> None:
        super().__init__()
        growth, groups = config.growth_rate, config.groups[block]
        pointwise_groups = config.pointwise_groups[block]
        if config.bottleneck:
            width = config.bottleneck * growth
            self.bottleneck: nn.Module = nn.Sequential(
                nn.BatchNorm2d(channels),
                nn.ReLU(),
                nn.Conv2d(channels, width, 1, groups=pointwise_groups, bias=False),
            )
            channels = width
        else:
            self.bottleneck = nn.Identity()
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.conv = convolution(channels, growth, 3, groups=groups, kind=config.convolution)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C + growth rate, H, W)."""
        return torch.cat([image, self.conv(self.relu(self.norm(self.bottleneck(image))))], 1)


def build(config: DenseNet, channels: int, classes: int) -> nn.Sequential:
    """The network, freshly initialised.

    Args:
        config: Its widths; those of the transitions are rounded up to what the next groups divide.
        channels: Of the image.
        classes: Of the output, which is (N, classes).
    """
    width, last = config.stem.width, len(config.layers) - 1
    parts: dict[str, nn.Module] = {"stem": layers.stem(config.stem, channels)}
    for block, count in enumerate(config.layers):
        dense: dict[str, nn.Module] = {}
        for layer in range(count):
            dense[str(layer)] = DenseLayer(width, config, block)
            width += config.growth_rate
        if block < last:
            entered = round_up(int(width * config.compression), _transition_multiple(config, block))
            groups = config.pointwise_groups[block]
            dense["transition"] = _transition(width, entered, groups)
            width = entered
        parts[f"block{block + 1}"] = layers.sequential(dense)
    parts |= {"norm": nn.BatchNorm2d(width), "relu": nn.ReLU()}
    network = layers.sequential(parts | layers.classifier(width, classes))
    layers.initialise(network)
    return network


def _transition_multiple(config: DenseNet, block: int) -> int:
    """What the width between `block` and the next must be a multiple of."""
    return math.lcm(config.groups_reading(block + 1), config.pointwise_groups[block])


def _transition(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, width, 1, groups=groups, bias=False),
        nn.AvgPool2d(2),
    )
