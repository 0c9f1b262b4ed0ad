"""The layer table of a network that was built: it is run, and what passes through it is counted."""

import math
from collections.abc import Mapping

import torch
from candidates import reshape
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression.graph import fold
from micronet_search.compression.pruning import prunable
from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input, Network
from micronet_search.network import family
from micronet_search.network.layers import Join
from micronet_search.network.parts import Part
from micronet_search.network.precision import Plan
from micronet_search.network.shapes import passes
from micronet_search.network.tensors import layer_specs
from micronet_search.scoring import cost
from micronet_search.scoring.cost import KINDS, Cost, Layer, Stored

Shapes = tuple[torch.Size, torch.Size]


def observed(network: nn.Module, image: Input) -> dict[str, Shapes]:
    """What each layer without children reads and puts out, in the order in which they run."""
    found: dict[str, Shapes] = {}

    def observe(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, read: tuple[Tensor, ...], made: Tensor) -> None:
            found[name] = (read[0].shape, made.shape)

        module.register_forward_hook(note)

    for name, module in network.named_modules():
        if not list(module.children()):
            observe(name, module)
    with torch.no_grad():
        network.eval()(torch.zeros(1, image.channels, image.height, image.width))
    return found


def real(candidate: Candidate) -> tuple[Plan, Cost]:
    """The widths and the cost of a candidate's network, which is built, compressed and run."""
    network = build.network(candidate)
    reshape(network, candidate)
    plan, config = build.plan(candidate, network), candidate.pruning
    parameters = sum(p.numel() for p in network.parameters())
    pruned = prunable(network, config.exclude) if config else ()
    fold(network, plan)
    rows = []
    for name, (read, made) in observed(network, candidate.input).items():
        module, outputs = network.get_submodule(name), made.numel()
        if isinstance(module, nn.Flatten | nn.Identity | Join):
            continue
        passing = 32 if plan.integer else plan.rest_bits
        kind, widths, macs = KINDS[type(module)], (passing, passing), 0
        if isinstance(module, nn.Conv2d | nn.Linear):
            precision, macs = plan.layers[name], outputs * module.weight[0].numel()
            widths = precision.weight_bits, precision.activation_bits
        stored = []
        for t in layer_specs(name, module, plan):
            zeros = 0
            if config and name in pruned and t.role == "weight":
                zeros = math.floor(config.sparsity * t.elements + 1e-9)
            stored.append(Stored(**vars(t), nonzeros=t.elements - zeros))
        window = read.numel() // outputs if kind == "pool" else 1
        if isinstance(module, nn.AvgPool2d):
            window = module.kernel_size**2
        rows.append(Layer(name, kind, tuple(stored), *widths, macs, outputs, window))
    return plan, Cost(tuple(rows), parameters, plan.integer)


def count(
    network: Part, image: Input, plan: Plan, sparsity: Mapping[str, float] | None = None
) -> Cost:
    """The layer table of a described network, no norm of which folds."""
    return cost.count(passes(network, image), plan, sparsity=sparsity or {}, folded={})


def described(network: Network, channels: int = 3, classes: int = 10) -> Part:
    """The description of a network."""
    return family.describe(network, channels, classes)
