"""Builds a network of any family, which is the module of its name beside this one."""

from importlib import import_module

from torch import nn

from micronet_search.config.network import Network


def build(config: Network, channels: int, classes: int) -> nn.Sequential:
    """Builds a freshly initialised network that reads `channels` and puts out (N, classes).

    Its parts are the stem, `block1` to `blockN` and the classifier, in this order. Parts between
    them have other names.
    """
    family = import_module(f"micronet_search.network.{config.family}")
    network: nn.Sequential = family.build(config, channels, classes)
    return network
