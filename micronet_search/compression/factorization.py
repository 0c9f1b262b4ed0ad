"""Factorization: a layer as a product of smaller ones, where those have fewer weights.

The factors of the layer NAME are NAME.0, NAME.1 and so on: plain layers that are pruned, quantized
and counted like any other. Their shapes follow from the shape of the layer alone, so that they are
known on `meta`. The weight of a convolution is (out, in / groups, k, k). A ratio is a rank as a
fraction of the full one, rounded to at least 1.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from micronet_search.compression.technique import Technique
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import FactorizationKind
from micronet_search.network.precision import Plan, layers_of

Shape = tuple[int, ...]

_STEPS = 5


@torch.no_grad()
def factorize(network: nn.Module, kind: FactorizationKind, ratio: float) -> None:
    """Replaces layers by their factors, in place, where the weights become fewer.

    Convolutions that read a single channel in each group stay, depthwise ones among them.

    Args:
        network: Plain modules, on any device.
        kind: `svd`: a k x k convolution to the rank, then a 1x1 one; or two linear layers.
            `tucker`: 1x1, k x k and 1x1, for convolutions larger than 1x1.
        ratio: The rank as a fraction of the full one.
    """
    for name, layer in layers_of(network).items():
        if isinstance(layer, nn.Conv2d):
            product = _convolutions(layer, kind, ratio)
        else:
            product = _linears(layer, kind, ratio)
        if product is not None:
            network.set_submodule(name, product.train(layer.training))


def svd(weight: Tensor, groups: int, ratio: float) -> list[Tensor]:
    """Computes the nearest product of a rank to the kernel of each group, unfolded to a matrix.

    Returns:
        The weights of a k x k convolution, (groups * rank, in / groups, k, k), and of a 1x1 one
        after it, (out, rank, 1, 1).
    """
    matrices = _by_group(weight, groups).flatten(2)
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
    channels of a group.

    Returns:
        The weights of a 1x1, a k x k and a 1x1 convolution, all with these groups.
    """
    kernels = _by_group(weight, groups).flatten(3)
    _, leaving, entering, _ = kernels.shape
    outer, inner = _rank(ratio, leaving), _rank(ratio, entering)
    after = _leading(kernels, outer)
    for _ in range(_STEPS):
        before = _leading(torch.einsum("goip,gor->girp", kernels, after), inner)
        after = _leading(torch.einsum("goip,gis->gosp", kernels, before), outer)
    core = torch.einsum("goip,gor,gis->grsp", kernels, after, before)
    first, third = before.mT.flatten(0, 1), after.flatten(0, 1)
    second = core.flatten(0, 1).unflatten(2, weight.shape[2:])
    return [first[..., None, None].to(weight), second.to(weight), third[..., None, None].to(weight)]


def _rank(ratio: float, full: int) -> int:
    return max(1, round(ratio * full))


def _by_group(weight: Tensor, groups: int) -> Tensor:
    """Returns kernels (groups, out / groups, in / groups, k, k) in double precision."""
    exact = weight.cpu().double()
    return exact.view(groups, -1, *weight.shape[1:])


def _leading(tensors: Tensor, rank: int) -> Tensor:
    """Returns the leading left singular vectors (groups, n, rank) of unfolded (groups, n, ...)."""
    matrices = tensors.flatten(2)
    # from n x n matrices, so that there always are as many vectors as the rank
    vectors: Tensor = torch.linalg.eigh(matrices @ matrices.mT).eigenvectors
    return vectors[..., -rank:]


def _fewer(
    kind: FactorizationKind, weight: Tensor, groups: int, ratio: float
) -> list[Tensor] | None:
    """Returns the factors of a weight, or None where they have no fewer elements."""
    shapes = _shapes(kind, weight.shape, groups, ratio)
    if sum(map(math.prod, shapes)) >= weight.numel():
        return None
    if weight.is_meta:  # Torch would take milliseconds to find the same shapes
        return [weight.new_empty(shape) for shape in shapes]
    return (svd if kind == "svd" else tucker)(weight, groups, ratio)


def _shapes(kind: FactorizationKind, shape: Shape, groups: int, ratio: float) -> list[Shape]:
    """Returns the shapes of the factors of a weight of shape (out, in / groups, k, k)."""
    out, entering, *kernel = shape
    if kind == "svd":
        rank = _rank(ratio, min(out // groups, math.prod(shape[1:])))
        return [(groups * rank, *shape[1:]), (out, rank, 1, 1)]
    outer, inner = _rank(ratio, out // groups), _rank(ratio, entering)
    first, second = (groups * inner, entering, 1, 1), (groups * outer, inner, *kernel)
    return [first, second, (out, outer, 1, 1)]


def _linears(layer: nn.Linear, kind: FactorizationKind, ratio: float) -> nn.Sequential | None:
    """Returns two linear layers, the second one with the bias."""
    factors = _fewer("svd", layer.weight[..., None, None], 1, ratio) if kind == "svd" else None
    if factors is None:
        return None
    first, second = (factor.flatten(1) for factor in factors)
    return nn.Sequential(_layer(first), _layer(second, layer.bias))


def _convolutions(layer: nn.Conv2d, kind: FactorizationKind, ratio: float) -> nn.Sequential | None:
    """Returns two or three convolutions: the last one has the bias, that before it the stride."""
    if layer.groups > 1 and layer.groups == layer.in_channels:
        return None
    if kind == "tucker" and layer.kernel_size == (1, 1):
        return None
    factors = _fewer(kind, layer.weight, layer.groups, ratio)
    if factors is None:
        return None
    *outer, spatial, last = factors
    groups = layer.groups
    return nn.Sequential(
        *(_layer(factor, groups=groups) for factor in outer),
        _layer(spatial, groups=groups, stride=layer.stride, padding=layer.padding),
        _layer(last, layer.bias, groups),
    )


def _layer(
    weight: Tensor, bias: Tensor | None = None, groups: int = 1, **geometry: Any
) -> nn.Module:
    """Makes a linear layer of a matrix, or a convolution of a kernel."""
    out, entering, *kernel = weight.shape
    # on meta, so that no random numbers are drawn for weights that are replaced
    geometry |= {"bias": False, "device": "meta"}
    layer: nn.Module
    if kernel:
        layer = nn.Conv2d(entering * groups, out, (kernel[0], kernel[1]), groups=groups, **geometry)
    else:
        layer = nn.Linear(entering, out, **geometry)
    layer.weight = nn.Parameter(weight.contiguous())
    layer.register_parameter("bias", None if bias is None else nn.Parameter(bias))
    return layer


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
