"""Builds a network of any family, which is the module of its name beside this one."""

from __future__ import annotations

from importlib import import_module

from torch import nn

from micronet_search.config.network import Network


def build(config: Network, channels: int, classes: int) -> nn.Sequential:
    """Builds a freshly initialised network.

    Its parts are the stem, `block1` to `blockN` and the classifier, in this order. Parts between
    them have other names.

    Args:
        config: The shape of the network, whose `family` names the module.
        channels: Channels of the image.
        classes: Number of classes; the output is (N, classes).
    """
    family = import_module(f"micronet_search.network.{config.family}")
    network: nn.Sequential = family.build(config, channels, classes)
    return network
