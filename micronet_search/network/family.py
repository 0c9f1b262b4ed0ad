"""A network of any family."""

from __future__ import annotations

from torch import nn

from micronet_search.config.network import DenseNet, Network, ResNet
from micronet_search.network import densenet, efficientnet, resnet


def build(config: Network, channels: int, classes: int) -> nn.Sequential:
    """The network, freshly initialised.

    Its parts are the stem, `block1` to `blockN` and the classifier, in this order; what stands
    between them has other names.

    Args:
        config: The family and its widths.
        channels: Of the image.
        classes: Of the output, which is (N, classes).
    """
    if isinstance(config, DenseNet):
        return densenet.build(config, channels, classes)
    if isinstance(config, ResNet):
        return resnet.build(config, channels, classes)
    return efficientnet.build(config, channels, classes)
