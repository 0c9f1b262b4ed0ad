"""Factorization: a layer as a product of smaller ones, where those have fewer weights.

The factors of the layer NAME are plain layers, NAME.0, NAME.1 and so on. Their shapes follow from
that of the layer alone. The weight of a convolution is (out, in / groups, k, k). A ratio is a rank
as a fraction of the full one, rounded to at least 1.
"""

import math
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from micronet_search.compression.technique import Technique
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import FactorizationKind
from micronet_search.network.parts import Part, chain
from micronet_search.network.precision import Plan, layers_of
from micronet_search.network.shapes import Passed, weighted


@torch.no_grad()
def factorize(network: nn.Module, kind: FactorizationKind, ratio: float) -> None:
    """Replaces layers by their factors, in place, where the weights become fewer.

    By `svd`, a convolution becomes a k x k one to the rank and a 1x1 one, a linear layer two; by
    `tucker`, a convolution larger than 1x1 becomes a 1x1, a k x k and a 1x1 one. Convolutions that
    read a single channel in each group stay, depthwise ones among them.
    """
    for name, layer in layers_of(network).items():
        part = _described(layer)
        if (product := _product(part, kind, ratio)) is None:
            continue
        kernel, groups = layer.weight, part.options.get("groups", 1)
        if isinstance(layer, nn.Linear):
            kernel = kernel[..., None, None]
        factors = (svd if kind == "svd" else tucker)(kernel, groups, ratio)
        with torch.device("meta"):  # so that no random numbers are drawn for weights
            made = product.module()
        parts = layers_of(made).values()
        for factor, kernel in zip(parts, factors, strict=True):
            factor.weight = nn.Parameter(kernel.reshape(factor.weight.shape).contiguous())
        if layer.bias is not None:
            factor.bias = nn.Parameter(layer.bias)
        network.set_submodule(name, made.train(layer.training))


def svd(weight: Tensor, groups: int, ratio: float) -> list[Tensor]:
    """Computes the nearest product of a rank to the kernel of each group, unfolded to a matrix.

    The factors are kernels (groups * rank, in / groups, k, k) and (out, rank, 1, 1).
    """
    matrices = weight.cpu().double().unflatten(0, (groups, -1)).flatten(2)
    rank = _rank(ratio, min(matrices.shape[1:]))
    left, values, right = torch.linalg.svd(matrices, full_matrices=False)
    root = values[:, :rank].sqrt()
    first = (root[:, :, None] * right[:, :rank]).reshape(-1, *weight.shape[1:])
    second = (left[:, :, :rank] * root[:, None]).flatten(0, 1)[..., None, None]
    return [first.to(weight), second.to(weight)]


def tucker(weight: Tensor, groups: int, ratio: float) -> list[Tensor]:
    """Computes a Tucker-2 decomposition of each group's kernel (Kim et al., 2016).

    The method is higher-order orthogonal iteration (De Lathauwer et al., 2000), from the leading
    singular vectors of the output channels. The ratio is that of the input and of the output
    channels of a group. The factors are kernels of a 1x1, a k x k and a 1x1 convolution.
    """
    kernels = weight.cpu().double().unflatten(0, (groups, -1)).flatten(3)
    _, leaving, entering, _ = kernels.shape
    outer, inner = _rank(ratio, leaving), _rank(ratio, entering)
    after = _leading(kernels, outer)
    for _ in range(5):
        before = _leading(torch.einsum("goip,gor->girp", kernels, after), inner)
        after = _leading(torch.einsum("goip,gis->gosp", kernels, before), outer)
    core = torch.einsum("goip,gor,gis->grsp", kernels, after, before)
    first, third = before.mT.flatten(0, 1), after.flatten(0, 1)
    second = core.flatten(0, 1).unflatten(2, weight.shape[2:])
    return [first[..., None, None].to(weight), second.to(weight), third[..., None, None].to(weight)]


def _rank(ratio: float, full: int) -> int:
    return max(1, round(ratio * full))


def _leading(tensors: Tensor, rank: int) -> Tensor:
    """Returns the leading left singular vectors (groups, n, rank) of unfolded (groups, n, ...)."""
    matrices = tensors.flatten(2)
    # from n x n matrices, so that there always are as many vectors as the rank
    vectors: Tensor = torch.linalg.eigh(matrices @ matrices.mT).eigenvectors
    return vectors[..., -rank:]


_POINT = {"kernel_size": 1, "stride": 1, "padding": 0}


def _described(layer: nn.Conv2d | nn.Linear) -> Part:
    """Describes a layer that was built; the windows of convolutions are squares."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        features = {"in_features": layer.in_features, "out_features": layer.out_features}
        return Part(nn.Linear, {**features, "bias": bias})
    options = {name: getattr(layer, name) for name in ("in_channels", "out_channels", "groups")}
    sides = {name: getattr(layer, name)[0] for name in _POINT}
    return Part(nn.Conv2d, {**options, **sides, "bias": bias})


def _product(layer: Part, kind: FactorizationKind, ratio: float) -> Part | None:
    """Describes the factors of a layer, or returns None where it stays.

    The last one has the bias, that before it the stride.
    """
    out, entering, *kernel = layer.weights
    groups = layer.options.get("groups", 1)
    if (kind == "tucker" and kernel in ([], [1, 1])) or layer.is_depthwise:
        return None
    if kind == "tucker":
        outer, inner = groups * _rank(ratio, out // groups), groups * _rank(ratio, entering)
        factors = [
            layer.changed(out_channels=inner, bias=False, **_POINT),
            layer.changed(in_channels=inner, out_channels=outer, bias=False),
            layer.changed(in_channels=outer, **_POINT),
        ]
    else:
        rank = groups * _rank(ratio, min(out // groups, entering * math.prod(kernel)))
        between = ("out_channels", "in_channels") if kernel else ("out_features", "in_features")
        factors = [
            layer.changed(**{between[0]: rank, "bias": False}),
            layer.changed(**{between[1]: rank}, **_POINT if kernel else {}),
        ]
    fewer = sum(math.prod(factor.weights) for factor in factors) < math.prod(layer.weights)
    return chain(*factors) if fewer else None


_KINDS: dict[FactorizationKind, str] = {
    "svd": "SVD: layers became products of two, through fewer channels",
    "tucker": "Tucker-2: convolutions became products of three, through fewer channels",
}


class LowRankFactorization(Technique):
    """Replaces layers by products of smaller ones, and fine-tunes the network."""

    stage, field, reshapes = "factorize", "factorization", True

    def transform(self, network: nn.Module, candidate: Candidate) -> None:
        """Replaces layers by their factors, in place."""
        config = self.config(candidate)
        factorize(network, config.kind, config.ratio)

    def reshape(self, layers: Sequence[Passed], candidate: Candidate) -> Mapping[str, Part]:
        """Returns the factors."""
        config = self.config(candidate)
        parts = weighted(layers).items()
        products = {name: _product(part, config.kind, config.ratio) for name, part in parts}
        return {name: product for name, product in products.items() if product is not None}

    def has_effect(self, candidate: Candidate) -> bool:
        """Returns whether the rank is below the full one."""
        return candidate.factorization is not None and candidate.factorization.ratio < 1.0

    def figures(self, candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
        """Yields the kind and the rank."""
        if self.has_effect(candidate):
            config = self.config(candidate)
            yield "factorization", _KINDS[config.kind]
            yield "rank, as a share of the full one", f"{config.ratio:.2%}"


TECHNIQUE = LowRankFactorization()
