"""DenseNet-BC for small images (Huang et al., 2017), with grouped convolutions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from micronet_search.config.network import DenseNet, round_up


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
        self.conv = nn.Conv2d(channels, growth, 3, padding=1, groups=groups, bias=False)

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
    stem, width = config.stem, config.stem.width
    parts: dict[str, nn.Module] = {
        "stem": nn.Conv2d(
            channels, width, stem.kernel, stem.stride, padding=stem.kernel // 2, bias=False
        )
    }
    for block, layers in enumerate(config.layers):
        if block:
            entered = round_up(int(width * config.compression), _transition_multiple(config, block))
            groups = config.pointwise_groups[block - 1]
            parts[f"transition{block}"] = _transition(width, entered, groups)
            width = entered
        dense = []
        for _ in range(layers):
            dense.append(DenseLayer(width, config, block))
            width += config.growth_rate
        parts[f"block{block + 1}"] = nn.Sequential(*dense)
    parts["norm"] = nn.BatchNorm2d(width)
    parts["relu"] = nn.ReLU()
    parts["pool"] = nn.AdaptiveAvgPool2d(1)
    parts["flatten"] = nn.Flatten()
    parts["classifier"] = nn.Linear(width, classes)
    network = nn.Sequential()
    for name, part in parts.items():
        network.add_module(name, part)
    _initialise(network)
    return network


def _transition_multiple(config: DenseNet, block: int) -> int:
    """What the width between `block - 1` and `block` must be a multiple of."""
    return math.lcm(config.groups_reading(block), config.pointwise_groups[block - 1])


def _transition(channels: int, width: int, groups: int) -> nn.Sequential:
    return nn.Sequential(
        nn.BatchNorm2d(channels),
        nn.ReLU(),
        nn.Conv2d(channels, width, 1, groups=groups, bias=False),
        nn.AvgPool2d(2),
    )


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
