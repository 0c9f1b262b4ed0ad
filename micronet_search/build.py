"""Candidate -> network, compressed as it asks, and its predicted cost."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from micronet_search.compression import factorize, prune, quantize, stored, structured
from micronet_search.compression.fold import fold
from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input
from micronet_search.network import family, precision
from micronet_search.network.precision import Plan, layers_of
from micronet_search.score.cost import Cost, count

TRANSFORMS = ("thin", "factorize", "quantize")
"""The stages that change a network's layers when they are entered."""

MAX_VALUES = 100_000_000
"""Parameters, and values between layers, of a network that is built to be thinned: 400 MB each."""


class TooLargeError(ValueError):
    """A network that is not built, because it would fill the memory."""


def network(candidate: Candidate, seed: int = 0) -> nn.Sequential:
    """The plain network, freshly initialised from `seed`, on the current default device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return family.build(candidate.network, candidate.input.channels, candidate.classes)


def transform(network: nn.Sequential, candidate: Candidate, stage: str) -> None:
    """Changes a network's layers, in place, as a stage does when it is entered.

    Args:
        network: With the changes of the stages before; not on `meta` for `thin` and `quantize`.
        candidate: What asks for the stage.
        stage: One of `TRANSFORMS`.
    """
    match stage:
        case "thin":
            assert candidate.structured_pruning is not None
            structured.thin(network, _smallest(candidate), candidate.structured_pruning.ratio)
        case "factorize":
            assert candidate.factorization is not None
            factors = candidate.factorization
            factorize.factorize(network, factors.kind, factors.ratio)
        case "quantize":
            quantize.insert(network, plan(candidate, network))
        case _:
            raise AssertionError(stage)


def structure(candidate: Candidate) -> nn.Sequential:
    """The network, thinned and factorized, on the `meta` device: shapes without values.

    Raises:
        TooLargeError: It is to be thinned, and too large to be built for that.
    """
    with torch.device("meta"):
        found = network(candidate)
    if candidate.structured_pruning is not None:
        # what finds the channels that go together needs a real network
        _refuse_giant(found, _smallest(candidate))
        found = network(candidate)
        transform(found, candidate, "thin")
        found.to("meta")
    if candidate.factorization is not None:
        transform(found, candidate, "factorize")
    return found


def _smallest(candidate: Candidate) -> Input:
    """The smallest image for a network: which channels go together is the same for all."""
    side = 2**candidate.network.halvings
    return Input(channels=candidate.input.channels, height=side, width=side)


def _refuse_giant(network: nn.Module, image: Input) -> None:
    channels = sum(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))
    found = {
        "parameters": sum(math.prod(p.shape) for p in network.parameters()),
        "values between its layers": channels * image.height * image.width,
    }
    for name, total in found.items():
        if total > MAX_VALUES:
            raise TooLargeError(
                f"the network to thin has {total:,} {name}, expected at most {MAX_VALUES:,}"
            )


def plan(candidate: Candidate, structure: nn.Module) -> Plan:
    """The bit widths of each layer of the candidate's network, thinned and factorized."""
    return precision.plan(candidate.quantization, layers_of(structure))


def compressed(candidate: Candidate) -> tuple[nn.Sequential, Plan]:
    """The structure that is shipped, with the values of none of its tensors, and its widths."""
    shipped = structure(candidate).to_empty(device="cpu")
    widths = plan(candidate, shipped)
    transform(shipped, candidate, "quantize")
    return shipped, widths


def layout(candidate: Candidate) -> dict[str, Tensor]:
    """The stored tensors of the candidate's shipped network, on the `meta` device."""
    found = structure(candidate)
    widths = plan(candidate, found)
    fold(found, widths)
    return stored.layout(found, widths)


def predict(candidate: Candidate) -> Cost:
    """The cost, known before training: exact but for nonzeros, which follow from the sparsity."""
    return planned(candidate)[1]


def planned(candidate: Candidate) -> tuple[Plan, Cost]:
    """The widths of the layers, and the cost, known before training."""
    found = structure(candidate)
    widths = plan(candidate, found)
    parameters = sum(math.prod(p.shape) for p in found.parameters())
    sparsity: dict[str, float] = {}
    if candidate.pruning is not None:
        pruned = prune.prunable(found, candidate.pruning.exclude)
        sparsity = dict.fromkeys(pruned, candidate.pruning.sparsity)
    fold(found, widths)
    cost = count(found, candidate.input, widths, sparsity=sparsity, parameters=parameters)
    return widths, cost
