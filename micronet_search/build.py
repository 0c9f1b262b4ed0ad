"""Candidate -> network, compressed as it asks, and its predicted cost."""

from __future__ import annotations

import math

import torch
from torch import nn

from micronet_search.compression import quantize
from micronet_search.compression.fold import fold
from micronet_search.config.candidate import Candidate
from micronet_search.network import densenet
from micronet_search.score import precision
from micronet_search.score.cost import Cost, count
from micronet_search.score.precision import Plan, layers_of


def network(candidate: Candidate, seed: int = 0) -> nn.Sequential:
    """The plain network, freshly initialised from `seed`, on the current default device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return densenet.build(candidate.network, candidate.input.channels, candidate.classes)


def plan(candidate: Candidate, plain: nn.Module) -> Plan:
    """The bit widths of each layer of the candidate's plain network."""
    return precision.plan(candidate.quantization, layers_of(plain))


def is_integer(candidate: Candidate) -> bool:
    """Whether some layer will be integer, so that quantization has something to learn."""
    with torch.device("meta"):
        return plan(candidate, network(candidate)).integer


def compressed(candidate: Candidate) -> tuple[nn.Sequential, Plan]:
    """The structure that is shipped, with the values of none of its tensors, and its widths."""
    shipped = network(candidate)
    widths = plan(candidate, shipped)
    quantize.insert(shipped, widths)
    return shipped, widths


def predict(candidate: Candidate) -> Cost:
    """The cost, known before training: exact but for nonzeros, which follow from the sparsity."""
    with torch.device("meta"):
        plain = network(candidate)
    widths = plan(candidate, plain)
    parameters = sum(math.prod(p.shape) for p in plain.parameters())
    fold(plain, widths)
    asked = candidate.pruning.sparsity if candidate.pruning else 0.0
    sparsity = dict.fromkeys(layers_of(plain), asked)
    return count(plain, candidate.input, widths, sparsity=sparsity, parameters=parameters)
