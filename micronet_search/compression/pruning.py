"""Unstructured pruning: zeros among the weights, which stay zero, so that no mask is saved."""

import math
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import nn

from micronet_search.compression.technique import Repair, Technique
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Pruning
from micronet_search.network.precision import layer_sets_of, layers_of
from micronet_search.network.shapes import Passed, weighted

RISE = 0.75
"""The share of the stage's epochs in which the sparsity rises; it is kept in the rest of them."""


def sparsity_at(pruning: Pruning, risen: float) -> float:
    """Returns the sparsity when a share of its rise (0 to 1; more counts as 1) is over.

    With `s` for the final sparsity and `t` for the share, the schedules are: `cubic`,
    s (1 - (1 - t)^3) (Zhu and Gupta, 2017). `iterative`, n rounds of the same length, the k-th of
    which begins with the sparsity 1 - (1 - s)^(k / n), so that each round removes the same fraction
    of the weights that are left (Frankle and Carbin, 2019). `one-shot`, s from the beginning.
    """
    target, risen = pruning.sparsity, min(risen, 1.0)
    match pruning.schedule:
        case "cubic":
            return target * (1.0 - (1.0 - risen) ** 3)
        case "iterative":
            # a tolerance, so that round 2 of 3 is not over before 2 / 3
            begun = math.ceil(risen * pruning.rounds - 1e-9)
            return 1.0 - math.pow(1.0 - target, begun / pruning.rounds)
        case "one-shot":
            return target


def prunable(network: nn.Module, exclude: Collection[str] = ()) -> dict[str, nn.Conv2d | nn.Linear]:
    """Returns the layers that are not in the sets `first`, `last`, `depthwise` or `blockN`."""
    layers = layers_of(network)
    depthwise = {
        name
        for name, layer in layers.items()
        if isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels > 1
    }
    return {name: layers[name] for name in _included(list(layers), depthwise, exclude)}


def _included(
    names: Sequence[str], depthwise: Collection[str], exclude: Collection[str]
) -> list[str]:
    """Returns the layers, of all that are named first to last, that no excluded set holds."""
    found = [name for name in names if layer_sets_of(name, names).isdisjoint(exclude)]
    return [name for name in found if "depthwise" not in exclude or name not in depthwise]


@torch.no_grad()
def prune(network: nn.Module, sparsity: float, exclude: Collection[str] = ()) -> None:
    """Zeros the smallest weights of all `prunable` layers together, a fraction rounded down."""
    weights = [layer.weight for layer in prunable(network, exclude).values()]
    if not weights:
        return
    magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
    # a tolerance, so that 0.3 of 10 weights are 3
    zeros = math.floor(sparsity * magnitudes.numel() + 1e-9)
    keep = torch.ones_like(magnitudes, dtype=torch.bool)
    keep[torch.topk(magnitudes, zeros, largest=False).indices] = False
    for weight, kept in zip(weights, keep.split([w.numel() for w in weights]), strict=True):
        weight.mul_(kept.view_as(weight))


class UnstructuredPruning(Technique):
    """Zeros single weights while the network is fine-tuned, and keeps them zero from then on."""

    stage, field = "prune", "pruning"

    def before_epoch(self, network: nn.Module, candidate: Candidate, progress: float) -> None:
        """Zeros more weights, as the schedule says."""
        config = self.config(candidate)
        prune(network, sparsity_at(config, progress / RISE), config.exclude)

    def after_step(self, network: nn.Module) -> Repair:
        """Returns a repair that zeros again each weight that is zero now."""
        masks = {name: layer.weight != 0 for name, layer in layers_of(network).items()}

        @torch.no_grad()
        def zero(changed: nn.Module) -> None:
            layers = layers_of(changed)
            for name, mask in masks.items():
                layers[name].weight.mul_(mask)

        return zero

    def sparsity(self, layers: Sequence[Passed], candidate: Candidate) -> Mapping[str, float]:
        """Returns the target of the schedule for every prunable layer."""
        config, weights = self.config(candidate), weighted(layers)
        depthwise = {name for name, part in weights.items() if part.is_depthwise}
        return dict.fromkeys(_included(list(weights), depthwise, config.exclude), config.sparsity)

    def has_effect(self, candidate: Candidate) -> bool:
        """Returns whether any weight becomes zero."""
        return candidate.pruning is not None and candidate.pruning.sparsity > 0


TECHNIQUE = UnstructuredPruning()
