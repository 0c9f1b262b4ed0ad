"""Candidate -> network, compressed as it asks, and its predicted cost."""

import math

import torch
from torch import Tensor, nn

from micronet_search.compression import stored
from micronet_search.compression.graph import fold
from micronet_search.compression.structured_pruning import TooLargeError
from micronet_search.compression.technique import techniques_of
from micronet_search.config.candidate import Candidate
from micronet_search.network import family, precision
from micronet_search.network.precision import Plan, layers_of
from micronet_search.network.shapes import ShapesOnly
from micronet_search.score.cost import Cost, count

__all__ = ["TooLargeError", "compressed", "layout", "network", "plan", "planned", "predict"]


def network(candidate: Candidate, seed: int = 0) -> nn.Sequential:
    """Returns the plain network, freshly initialised from `seed`, on the current default device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(candidate.network, candidate.input.channels, candidate.classes)


def structure(candidate: Candidate) -> nn.Sequential:
    """Returns the network with the layers that are stored, on the `meta` device: shapes alone.

    Raises:
        TooLargeError: It is to be thinned, and too large to be built for that.
    """
    with ShapesOnly():
        found = network(candidate)
    for technique in techniques_of(candidate):
        if technique.reshapes:
            technique.transform(found, candidate)
    return found


def plan(candidate: Candidate, structure: nn.Module) -> Plan:
    """Returns the bit widths of each layer of a candidate's `structure`."""
    return precision.plan(candidate.quantization, layers_of(structure))


def compressed(candidate: Candidate) -> tuple[nn.Sequential, Plan]:
    """Returns the network that is shipped, with tensors that hold no values yet, and its widths."""
    shipped = structure(candidate).to_empty(device="cpu")
    widths = plan(candidate, shipped)
    for technique in techniques_of(candidate):
        if not technique.reshapes:
            technique.transform(shipped, candidate)
            technique.finish(shipped, candidate)
    return shipped, widths


def layout(candidate: Candidate) -> dict[str, Tensor]:
    """Returns the stored tensors of the candidate's shipped network, on the `meta` device."""
    found = structure(candidate)
    widths = plan(candidate, found)
    fold(found, widths)
    return stored.layout(found, widths)


def predict(candidate: Candidate) -> Cost:
    """Returns the cost before training: exact but for nonzeros, which follow from the sparsity."""
    return planned(candidate)[1]


def planned(candidate: Candidate) -> tuple[Plan, Cost]:
    """Returns the widths of the layers, and the cost as `predict` does."""
    found = structure(candidate)
    widths = plan(candidate, found)
    parameters = sum(math.prod(p.shape) for p in found.parameters())
    sparsity: dict[str, float] = {}
    for technique in techniques_of(candidate):
        sparsity |= technique.sparsity(found, candidate)
    fold(found, widths)
    cost = count(found, candidate.input, widths, sparsity=sparsity, parameters=parameters)
    return widths, cost
