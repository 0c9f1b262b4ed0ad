"""Layers as products: how near they come, how many weights they have, that they are layers."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from micronet_search.compression.factorization import TECHNIQUE, factorize, svd, tucker
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Factorization, FactorizationKind
from micronet_search.config.network import DenseNet, EfficientNet, Input, ResNet
from micronet_search.network import family
from micronet_search.network.precision import layers_of
from micronet_search.network.shapes import passes, replace, weighted


def composed_svd(factors: list[Tensor], groups: int) -> Tensor:
    """The kernel that a k x k convolution and a 1x1 one after it make."""
    first, second = (factor.unflatten(0, (groups, -1)) for factor in factors)
    return torch.einsum("grixy,gor->goixy", first, second[..., 0, 0]).flatten(0, 1)


def composed_tucker(factors: list[Tensor], groups: int) -> Tensor:
    """The kernel that a 1x1, a k x k and a 1x1 convolution make."""
    first, second, third = (factor.unflatten(0, (groups, -1)) for factor in factors)
    inner = torch.einsum("gri,gsrxy->gsixy", first[..., 0, 0], second)
    return torch.einsum("gos,gsixy->goixy", third[..., 0, 0], inner).flatten(0, 1)


def tail(matrix: Tensor, rank: int) -> float:
    """The sum of squares of the singular values after the first ones."""
    return float(torch.linalg.svdvals(matrix)[rank:].square().sum())


GROUPED = pytest.mark.parametrize(
    ("shape", "groups"),
    [
        pytest.param((12, 8, 3, 3), 1, id="one-group"),
        pytest.param((12, 8, 3, 3), 3, id="three-groups"),
        pytest.param((4, 10, 1, 1), 2, id="one-by-one"),
        pytest.param((2, 30, 3, 3), 1, id="few-outputs"),
        pytest.param((30, 2, 5, 5), 1, id="few-inputs"),
    ],
)


@GROUPED
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_svd_is_as_near_as_its_rank_allows(
    shape: tuple[int, ...], groups: int, ratio: float
) -> None:
    """Eckart and Young (1936): what is lost are the singular values that are left out."""
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.double)
    found = composed_svd(svd(weight, groups, ratio), groups)
    matrices = weight.flatten(1).unflatten(0, (groups, -1))
    rank = max(1, round(ratio * min(matrices.shape[1:])))
    expected = sum(tail(matrix, rank) for matrix in matrices)
    assert float((found - weight).square().sum()) == pytest.approx(expected, abs=1e-12)


def tails(weight: Tensor, groups: int, ranks: tuple[int, int]) -> list[list[float]]:
    """What each group's kernel, unfolded by output and by input channels, has beyond the ranks."""
    kernels = weight.unflatten(0, (groups, -1)).flatten(3)
    return [[tail(k.transpose(0, m).flatten(1), ranks[m]) for m in (0, 1)] for k in kernels]


@GROUPED
@pytest.mark.parametrize("ratio", [0.1, 0.5, 1.0])
def test_tucker_lies_between_its_bounds(shape: tuple[int, ...], groups: int, ratio: float) -> None:
    """Of De Lathauwer et al. (2000): no less than either unfolding loses, no more than both."""
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.double)
    found = composed_tucker(tucker(weight, groups, ratio), groups)
    full = (shape[0] // groups, shape[1])
    outer, inner = (max(1, round(ratio * channels)) for channels in full)
    lost = tails(weight, groups, (outer, inner))
    error = float((found - weight).square().sum())
    assert error >= sum(map(max, lost)) - 1e-9
    assert error <= sum(map(sum, lost)) + 1e-9


def test_tucker_is_as_near_as_the_best_of_many_starts() -> None:
    """Against gradient descent on random orthogonal projections, written down here."""
    torch.manual_seed(0)
    weight = torch.randn(6, 5, 3, 3, dtype=torch.double)
    weight += 3 * composed_tucker(tucker(torch.randn_like(weight), 1, 0.4), 1)
    error = (composed_tucker(tucker(weight, 1, 0.4), 1) - weight).square().sum()
    best = min(_descended(weight, outer=2, inner=2, seed=seed) for seed in range(4))
    assert float(error) <= 1.0001 * best


def _descended(weight: Tensor, outer: int, inner: int, seed: int) -> float:
    torch.manual_seed(seed)
    after = torch.randn(6, outer, dtype=torch.double, requires_grad=True)
    before = torch.randn(5, inner, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.Adam([after, before], lr=0.05)
    for _ in range(300):
        left, right = (torch.linalg.qr(factor).Q for factor in (after, before))
        near = torch.einsum("oixy,or,pr,is,js->pjxy", weight, left, left, right, right)
        error = (near - weight).square().sum()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
    return float(error.detach())


def low_rank(layer: nn.Conv2d, kind: FactorizationKind) -> None:
    """Gives a convolution a kernel of half the full rank, or ranks."""
    split, compose = (svd, composed_svd) if kind == "svd" else (tucker, composed_tucker)
    layer.weight.data = compose(split(layer.weight.detach(), layer.groups, 0.25), layer.groups)


@pytest.mark.parametrize("kind", ["svd", "tucker"])
@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="plain"),
        pytest.param({"groups": 2, "stride": 2}, id="groups-and-stride"),
        pytest.param({"bias": False, "padding": 2, "kernel_size": 5}, id="no-bias"),
    ],
)
def test_a_kernel_of_low_rank_is_reproduced(
    kind: FactorizationKind, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 24, **({"kernel_size": 3, "padding": 1} | options))
    low_rank(layer, kind)
    network, images = nn.Sequential(layer, nn.ReLU()), torch.randn(2, 16, 9, 9)
    expected = network(images)
    factorize(network, kind, 0.25)
    assert len(network[0]) == (2 if kind == "svd" else 3)
    assert {factor.groups for factor in network[0]} == {layer.groups}
    torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


def test_a_linear_layer_of_low_rank_is_reproduced() -> None:
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Linear(20, 10)), torch.randn(4, 20)
    network[0].weight.data = torch.randn(10, 2) @ torch.randn(2, 20)
    expected = network(images)
    factorize(network, "svd", 0.2)
    assert [tuple(factor.weight.shape) for factor in network[0]] == [(2, 20), (10, 2)]
    assert [factor.bias is None for factor in network[0]] == [True, False]
    torch.testing.assert_close(network(images), expected, rtol=1e-5, atol=1e-5)


def weight_shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(layer.weight.shape) for name, layer in layers_of(network).items()}


def little_network() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 32, 1, groups=2),
        nn.Conv2d(32, 32, 5, groups=2),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


@pytest.mark.parametrize(
    ("kind", "ratio", "expected"),
    [
        pytest.param(
            "svd",
            0.25,
            {
                "0.0": (4, 3, 3, 3),  # a quarter of 16
                "0.1": (16, 4, 1, 1),
                "1": (16, 1, 3, 3),  # depthwise
                "2.0": (4, 8, 1, 1),  # a quarter of 8, twice
                "2.1": (32, 2, 1, 1),
                "3.0": (8, 16, 5, 5),
                "3.1": (32, 4, 1, 1),
                "5.0": (2, 32),  # a quarter of 10 is 2.5, rounded to even
                "5.1": (10, 2),
            },
            id="svd",
        ),
        pytest.param(
            "tucker",
            0.5,
            {
                "0.0": (2, 3, 1, 1),  # half of 3 is 1.5, rounded to even
                "0.1": (8, 2, 3, 3),
                "0.2": (16, 8, 1, 1),
                "1": (16, 1, 3, 3),
                "2": (32, 8, 1, 1),
                "3.0": (16, 16, 1, 1),
                "3.1": (16, 8, 5, 5),
                "3.2": (32, 8, 1, 1),
                "5": (10, 32),
            },
            id="tucker",
        ),
        pytest.param(
            "svd",
            0.75,
            {  # 12 x 27 + 16 x 12 are more than 16 x 27
                "0": (16, 3, 3, 3),
                "1": (16, 1, 3, 3),
                "2": (32, 8, 1, 1),  # 12 x 8 + 32 x 6 are more than 32 x 8
                "3.0": (24, 16, 5, 5),  # 24 x 400 + 32 x 12 are less than 32 x 400
                "3.1": (32, 12, 1, 1),
                "5": (10, 32),
            },
            id="where-the-weights-become-fewer-alone",
        ),
    ],
)
def test_shapes_counted_by_hand(
    kind: FactorizationKind, ratio: float, expected: dict[str, tuple[int, ...]]
) -> None:
    network = little_network()
    factorize(network, kind, ratio)
    assert weight_shapes(network) == expected


@pytest.mark.parametrize("kind", ["svd", "tucker"])
def test_at_full_rank_every_layer_stays(kind: FactorizationKind) -> None:
    network = little_network()
    layers = list(network)
    factorize(network, kind, 1.0)
    assert list(network) == layers


FAMILIES = [
    DenseNet.model_validate(
        {"family": "densenet", "stem": {"width": 8}, "growth_rate": 8, "layers": [1, 1]}
        | {"groups": [1, 2]}
    ),
    ResNet.model_validate(
        {"family": "resnet", "stem": {"width": 16}, "widths": [16, 32], "layers": 1}
        | {"convolution": "separable"}
    ),
    EfficientNet.model_validate(
        {"family": "efficientnet", "stem": {"width": 8}, "widths": [8, 16], "layers": 1}
        | {"squeeze": [0.0, 0.5], "convolution": "plain"}
    ),
]


@settings(max_examples=30)
@given(
    st.sampled_from(FAMILIES),
    st.sampled_from(["svd", "tucker"]),
    st.floats(0.01, 1.0),
)
def test_shapes_are_as_foretold_and_all_trains(
    network: Any, kind: FactorizationKind, ratio: float
) -> None:
    plain = family.build(network, 3, 10)
    weights = sum(math.prod(shape) for shape in weight_shapes(plain).values())
    randomness = torch.get_rng_state()
    factorize(plain, kind, ratio)
    assert torch.equal(randomness, torch.get_rng_state())
    layers = passes(family.describe(network, 3, 10), Input(height=8, width=8))
    asked = SimpleNamespace(factorization=Factorization(kind=kind, ratio=ratio))
    layers = replace(layers, TECHNIQUE.reshape(layers, cast(Candidate, asked)))
    assert weight_shapes(plain) == {name: part.weights for name, part in weighted(layers).items()}
    assert sum(math.prod(shape) for shape in weight_shapes(plain).values()) <= weights
    plain(torch.randn(2, 3, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in plain.parameters())
