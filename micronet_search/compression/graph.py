"""What the order of the layers tells: which norms fold, which inputs are never negative."""

from __future__ import annotations

import torch
from torch import fx, nn

from micronet_search.network.layers import Add, GlobalMean, Scale

_NONNEGATIVE = nn.ReLU | nn.Sigmoid | nn.Hardsigmoid
_KEEPS_SIGN = nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.Flatten | nn.Identity | Add | Scale


class _Tracer(fx.Tracer):
    """Traces down to layers, the project's own quantized ones among them."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return not isinstance(module, nn.Sequential) and (
            isinstance(module, nn.Conv2d | nn.Linear | Add | GlobalMean | Scale)
            or super().is_leaf_module(module, qualified_name)
        )


def trace(network: nn.Module) -> fx.Graph:
    """The network as a graph of its layers."""
    return _Tracer().trace(network)


def foldable_norms(network: nn.Module) -> dict[str, str]:
    """Norms whose only input is the output of one convolution that nothing else reads.

    Returns:
        From the name of each such norm to the name of its convolution.
    """
    modules = dict(network.named_modules())
    found: dict[str, str] = {}
    for node in trace(network).nodes:
        if node.op != "call_module" or not isinstance(modules[node.target], nn.BatchNorm2d):
            continue
        source, alone = node.args[0], True
        while source.op == "call_module" and isinstance(modules[source.target], nn.Identity):
            alone = alone and len(source.users) == 1
            source = source.args[0]
        convolved = source.op == "call_module" and isinstance(modules[source.target], nn.Conv2d)
        if convolved and alone and len(source.users) == 1:
            found[node.target] = source.target
    return found


def nonnegative_inputs(network: nn.Module) -> set[str]:
    """The layers whose input is never negative.

    It comes from ReLUs and sigmoids alone, through pooling, flattening, joining, residual sums and
    scaling.
    """
    modules = dict(network.named_modules())
    positive: dict[fx.Node, bool] = {}
    found: set[str] = set()
    for node in trace(network).nodes:
        sources = [positive.get(source, False) for source in node.all_input_nodes]
        if node.op == "call_module":
            module = modules[node.target]
            if isinstance(module, nn.Conv2d | nn.Linear) and all(sources):
                found.add(node.target)
            positive[node] = isinstance(module, _NONNEGATIVE) or (
                isinstance(module, _KEEPS_SIGN) and all(sources)
            )
        else:
            positive[node] = node.target is torch.cat and all(sources)
    return found
