"""What the order of the layers tells: which norms fold, and which inputs are never negative."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from micronet_search.compression.quantizers import WeightQuantizer
from micronet_search.network.layers import Add, GlobalMean, Join, Scale
from micronet_search.network.precision import Plan
from micronet_search.network.shapes import Passed

_NONNEGATIVE = nn.ReLU | nn.Sigmoid | nn.Hardsigmoid
_KEEPS_SIGN = nn.AvgPool2d | nn.AdaptiveAvgPool2d | nn.Flatten | nn.Identity | Add | Join | Scale


class _Tracer(fx.Tracer):
    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        # torch's own layers are leaves, the project's are not unless they are named here
        return not isinstance(module, nn.Sequential) and (
            isinstance(module, nn.Conv2d | nn.Linear | Add | GlobalMean | Join | Scale)
            or super().is_leaf_module(module, qualified_name)
        )


def trace(network: nn.Module) -> fx.Graph:
    """Returns the network as a graph of its layers."""
    return _Tracer().trace(network)


def foldable_norms(network: nn.Module) -> dict[str, str]:
    """Returns, for each norm that alone reads one convolution, the name of that convolution."""
    modules = dict(network.named_modules())

    def is_a(node: fx.Node, kind: type[nn.Module]) -> bool:
        return node.op == "call_module" and isinstance(modules[node.target], kind)

    found: dict[str, str] = {}
    for node in trace(network).nodes:
        if not is_a(node, nn.BatchNorm2d):
            continue
        source = node.args[0]
        alone = len(source.users) == 1
        while is_a(source, nn.Identity):
            source = source.args[0]
            alone = alone and len(source.users) == 1
        if alone and is_a(source, nn.Conv2d):
            found[node.target] = source.target
    return found


def folded(layers: Sequence[Passed], plan: Plan) -> dict[str, str]:
    """Returns the norms that `fold` folds, and their convolutions, of a network's description."""
    read = Counter(source for layer in layers for source in layer.sources)
    return {
        layer.name: source.name
        for layer in layers
        if layer.part.kind is nn.BatchNorm2d
        and (source := layer.sources[0]).part.kind is nn.Conv2d
        and read[source] == 1
        and plan.layers[source.name].scales_weights
    }


def nonnegative_inputs(network: nn.Module) -> set[str]:
    """Returns the layers whose input comes from ReLUs and sigmoids alone, which is not negative."""
    modules = dict(network.named_modules())
    nonnegative: dict[fx.Node, bool] = {}
    found: set[str] = set()
    for node in trace(network).nodes:
        all_sources = all(nonnegative.get(source, False) for source in node.all_input_nodes)
        if node.op != "call_module":
            continue
        module = modules[node.target]
        keeps = isinstance(module, _KEEPS_SIGN) and all_sources
        nonnegative[node] = isinstance(module, _NONNEGATIVE) or keeps
        if isinstance(module, nn.Conv2d | nn.Linear) and all_sources:
            found.add(node.target)
    return found


def affine(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Returns the factor and the summand per channel of a norm in evaluation, each (C,)."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return factor, norm.bias - norm.running_mean * factor


@torch.no_grad()
def fold(network: nn.Module, plan: Plan) -> None:
    """Folds each norm into the convolution with integer weights that it alone reads, in place.

    The scales of quantized weights take the size of the norm's factors, so that the integers stay.
    Where a factor is negative they change their sign, and the least one, which has no counterpart,
    becomes the greatest.
    """
    if not any(precision.scales_weights for precision in plan.layers.values()):
        return  # without tracing the network, which takes long
    for norm_name, conv_name in foldable_norms(network).items():
        if not plan.layers[conv_name].scales_weights:
            continue
        norm, conv = network.get_submodule(norm_name), network.get_submodule(conv_name)
        assert isinstance(norm, nn.BatchNorm2d)
        assert isinstance(conv, nn.Conv2d)
        factor, summand = affine(norm)
        conv.weight.mul_(factor[:, None, None, None])
        quantizer = getattr(conv, "weight_quantizer", None)
        if isinstance(quantizer, WeightQuantizer):
            quantizer.set_scale(quantizer.scale * factor.abs())
        bias = summand if conv.bias is None else summand + conv.bias * factor
        conv.bias = nn.Parameter(bias)
        network.set_submodule(norm_name, nn.Identity())
