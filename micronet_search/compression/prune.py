"""Unstructured pruning: zeros among the weights, by magnitude over the whole network.

A pruned weight is a zero and stays one: the mask of a network is where its weights are not zero,
so that nothing but the weights has to be saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from micronet_search.score.precision import layers_of


def sparsity_at(progress: float, target: float) -> float:
    """The sparsity at `progress` (0 to 1) of the rise: s (1 - (1 - t)^3), Zhu and Gupta (2017)."""
    return target * (1.0 - (1.0 - min(progress, 1.0)) ** 3)


@torch.no_grad()
def prune(network: nn.Module, sparsity: float) -> None:
    """Zeroes the smallest weights of all convolutions and linear layers together, in place.

    Args:
        network: Its biases and norms are left alone.
        sparsity: Fraction of these weights that are zero afterwards, rounded down to a weight.
    """
    weights = [layer.weight for layer in layers_of(network).values()]
    magnitudes = torch.cat([w.abs().flatten() for w in weights])
    # a tolerance, so that 0.3 of 10 weights are 3
    zeros = math.floor(sparsity * magnitudes.numel() + 1e-9)
    keep = torch.ones_like(magnitudes, dtype=torch.bool)
    keep[torch.topk(magnitudes, zeros, largest=False).indices] = False
    for weight, kept in zip(weights, keep.split([w.numel() for w in weights]), strict=True):
        weight.mul_(kept.view_as(weight))


def masks(network: nn.Module) -> dict[str, Tensor]:
    """Where each layer's weights are not zero, by the layer's name."""
    return {name: layer.weight != 0 for name, layer in layers_of(network).items()}


@torch.no_grad()
def apply(network: nn.Module, kept: Mapping[str, Tensor]) -> None:
    """Zeroes, in place, what the masks leave out."""
    layers = layers_of(network)
    for name, mask in kept.items():
        layers[name].weight.mul_(mask)
