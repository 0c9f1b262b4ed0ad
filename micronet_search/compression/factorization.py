"""Factorization: a layer as a product of smaller ones, where those have fewer weights.

The factors of the layer NAME are plain layers, NAME.0, NAME.1 and so on. Their shapes follow from
that of the layer alone, so that they are known on `meta`. The weight of a convolution is (out,
in / groups, k, k). A ratio is a rank as a fraction of the full one, rounded to at least 1.
"""

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


@torch.no_grad()
def factorize(network: nn.Module, kind: FactorizationKind, ratio: float) -> None:
    """Replaces layers by their factors, in place, where the weights become fewer.

    By `svd`, a convolution becomes a k x k one to the rank and a 1x1 one, a linear layer two; by
    `tucker`, a convolution larger than 1x1 becomes a 1x1, a k x k and a 1x1 one. Convolutions that
    read a single channel in each group stay, depthwise ones among them.
    """
    for name, layer in layers_of(network).items():
        kernel, groups = layer.weight, 1
        if isinstance(layer, nn.Conv2d):
            groups = layer.groups
            fits = groups == 1 or groups < layer.in_channels
            fits = fits and (kind == "svd" or layer.kernel_size != (1, 1))
        else:
            kernel, fits = kernel[..., None, None], kind == "svd"
        shapes = _shapes(kind, kernel.shape, groups, ratio)
        if not fits or sum(map(math.prod, shapes)) >= kernel.numel():
            continue
        if kernel.is_meta:  # Torch would take milliseconds to find the same shapes
            factors = [kernel.new_empty(shape) for shape in shapes]
        else:
            factors = (svd if kind == "svd" else tucker)(kernel, groups, ratio)
        product = _product(layer, factors)
        network.set_submodule(name, product.train(layer.training))


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


def _shapes(kind: FactorizationKind, shape: Shape, groups: int, ratio: float) -> list[Shape]:
    """Returns the shapes of the factors of a weight of shape (out, in / groups, k, k)."""
    out, entering, *kernel = shape
    if kind == "svd":
        rank = _rank(ratio, min(out // groups, math.prod(shape[1:])))
        return [(groups * rank, *shape[1:]), (out, rank, 1, 1)]
    outer, inner = _rank(ratio, out // groups), _rank(ratio, entering)
    first, second = (groups * inner, entering, 1, 1), (groups * outer, inner, *kernel)
    return [first, second, (out, outer, 1, 1)]


def _product(layer: nn.Conv2d | nn.Linear, factors: list[Tensor]) -> nn.Sequential:
    """Makes layers of these kernels: the last one has the bias, that before it the stride."""
    parts: list[nn.Module] = []
    for left, kernel in zip(reversed(range(len(factors))), factors, strict=True):
        out, entering, *size = kernel.shape
        # on meta, so that no random numbers are drawn for weights that are replaced
        options: dict[str, Any] = {"bias": False, "device": "meta"}
        part: nn.Conv2d | nn.Linear
        if isinstance(layer, nn.Linear):
            part, kernel = nn.Linear(entering, out, **options), kernel.flatten(1)
        else:
            if left == 1:
                options |= {"stride": layer.stride, "padding": layer.padding}
            options |= {"groups": layer.groups}
            part = nn.Conv2d(entering * layer.groups, out, (size[0], size[1]), **options)
        part.weight = nn.Parameter(kernel.contiguous())
        bias = None if left or layer.bias is None else nn.Parameter(layer.bias)
        part.register_parameter("bias", bias)
        parts.append(part)
    return nn.Sequential(*parts)


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
