"""Candidate -> network, compressed as it asks, and its predicted cost."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from micronet_search.compression.graph import folded
from micronet_search.compression.structured_pruning import TooLargeError
from micronet_search.compression.technique import techniques_of
from micronet_search.config.candidate import Candidate
from micronet_search.network import family, precision
from micronet_search.network.parts import NoValues, Part
from micronet_search.network.precision import Plan, layers_of
from micronet_search.network.shapes import Passed, passes, replace, weighted
from micronet_search.scoring.cost import Cost, count

__all__ = ["TooLargeError", "compressed", "layout", "network", "plan", "planned", "predict"]


def network(candidate: Candidate, seed: int = 0) -> nn.Sequential:
    """Returns the plain network, freshly initialised from `seed`, on the current default device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(candidate.network, candidate.input.channels, candidate.classes)


class Structure(NamedTuple):
    """A candidate's plain network, what replaces its layers by name, and the layers passed then."""

    network: Part
    replaced: dict[str, Part]
    layers: list[Passed]


def structure(candidate: Candidate) -> Structure:
    """Describes the network with the layers that are stored.

    Raises:
        TooLargeError: It is to be thinned, and too large to be built for that.
    """
    plain = family.describe(candidate.network, candidate.input.channels, candidate.classes)
    layers, replaced = passes(plain, candidate.input), dict[str, Part]()
    for technique in techniques_of(candidate):
        if technique.reshapes:
            found = technique.reshape(layers, candidate)
            layers = replace(layers, found)
            replaced |= found
    return Structure(plain, replaced, layers)


def plan(candidate: Candidate, network: nn.Module) -> Plan:
    """Returns the bit widths of each layer of a candidate's network."""
    return precision.plan(candidate.quantization, layers_of(network))


def compressed(candidate: Candidate) -> tuple[nn.Sequential, Plan]:
    """Returns the network that is shipped, with tensors that hold no values yet, and its widths."""
    plain, replaced, _ = structure(candidate)
    with NoValues():
        shipped = plain.module(replaced)
    assert isinstance(shipped, nn.Sequential)
    widths = plan(candidate, shipped)
    for technique in techniques_of(candidate):
        if not technique.reshapes:
            technique.transform(shipped, candidate)
            technique.finish(shipped, candidate)
    return shipped, widths


def layout(candidate: Candidate) -> dict[str, Tensor]:
    """Returns the stored tensors of the candidate's shipped network, on the `meta` device."""
    stored = predict(candidate).stored
    return {t.name: torch.empty(t.shape, dtype=t.dtype, device="meta") for t in stored}


def predict(candidate: Candidate) -> Cost:
    """Returns the cost before training: exact but for nonzeros, which follow from the sparsity."""
    return planned(candidate)[1]


def planned(candidate: Candidate) -> tuple[Plan, Cost]:
    """Returns the widths of the layers, and the cost as `predict` does."""
    layers = structure(candidate).layers
    widths = precision.plan(candidate.quantization, weighted(layers))
    sparsity: dict[str, float] = {}
    for technique in techniques_of(candidate):
        sparsity |= technique.sparsity(layers, candidate)
    return widths, count(layers, widths, sparsity=sparsity, folded=folded(layers, widths))
