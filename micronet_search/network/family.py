"""Describes and builds a network of any family, which is the module of its name beside this one."""

from importlib import import_module

from torch import nn

from micronet_search.config.network import Network
from micronet_search.network.layers import initialise
from micronet_search.network.parts import Part


def describe(config: Network, channels: int, classes: int) -> Part:
    """Describes a network that reads `channels` and puts out (N, classes).

    Its parts are the stem, `block1` to `blockN` and the classifier, in this order. Parts between
    them have other names.
    """
    family = import_module(f"micronet_search.network.{config.family}")
    network: Part = family.describe(config, channels, classes)
    return network


def build(config: Network, channels: int, classes: int) -> nn.Sequential:
    """Builds the network that `describe` describes, freshly initialised."""
    network = describe(config, channels, classes).module()
    assert isinstance(network, nn.Sequential)
    initialise(network)
    return network
