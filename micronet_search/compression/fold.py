"""Batch norms folded into the convolutions before them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from micronet_search.compression.graph import foldable_norms
from micronet_search.network.precision import Plan


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns the factor and the summand per channel of a norm in evaluation, each (C,)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return factor, norm.bias - norm.running_mean * factor


@torch.no_grad()
def fold(network: nn.Module, plan: Plan) -> None:
    """Folds each norm that reads a convolution with integer weights alone, in place.

    The network computes in evaluation what it did; the convolution gains a bias.
    """
    if not any(precision.scales_weights for precision in plan.layers.values()):
        return  # without tracing the network, which takes long
    for norm_name, conv_name in foldable_norms(network).items():
        if not plan.layers[conv_name].scales_weights:
            continue
        norm, conv = network.get_submodule(norm_name), network.get_submodule(conv_name)
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        conv.bias = nn.Parameter(_folded_bias(conv, norm))
        network.set_submodule(norm_name, nn.Identity())


def _folded_bias(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Tensor:
    """Scales the weights in place, and returns the new bias."""
    if norm.bias.is_meta:  # nothing to compute, for which Torch would take milliseconds
        return norm.bias.new_empty(norm.bias.shape)
    factor, summand = affine(norm)
    conv.weight.mul_(factor[:, None, None, None])
    return summand if conv.bias is None else summand + conv.bias * factor
