"""Zeros: how many, which, and that they stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from micronet_search.compression import prune


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 3))


def weights(pruned: nn.Sequential) -> torch.Tensor:
    return torch.cat([pruned[0].weight.flatten(), pruned[3].weight.flatten()]).detach()


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.25, 0.4625), (0.5, 0.7), (0.75, 0.7875), (1.0, 0.8), (1.5, 0.8)],
)
def test_the_cubic_rise(progress: float, expected: float) -> None:
    assert prune.sparsity_at(progress, 0.8) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 3))
def test_the_smallest_of_all_layers_are_zero(sparsity: float, seed: int) -> None:
    pruned = network(seed)
    before = weights(pruned)
    prune.prune(pruned, sparsity)
    after = weights(pruned)

    zeros = int(sparsity * 150 + 1e-9)
    order = sorted(range(150), key=lambda i: abs(before[i].item()))
    expected = before.clone()
    expected[order[:zeros]] = 0.0
    assert torch.equal(after, expected)
    assert int((after == 0).sum()) == zeros


@pytest.mark.parametrize(("sparsity", "zeros"), [(0.3, 45), (0.58, 87), (0.07, 10), (0.0, 0)])
def test_how_many(sparsity: float, zeros: int) -> None:
    pruned = network()
    prune.prune(pruned, sparsity)
    assert int((weights(pruned) == 0).sum()) == zeros


def test_equal_weights_are_counted_one_by_one() -> None:
    layer = nn.Sequential(nn.Linear(10, 2))
    layer[0].weight.data.fill_(0.5)
    prune.prune(layer, 0.35)
    assert int((layer[0].weight == 0).sum()) == 7


def test_what_is_zero_stays_pruned_as_the_sparsity_rises() -> None:
    pruned = network()
    prune.prune(pruned, 0.4)
    zeros = weights(pruned) == 0
    prune.prune(pruned, 0.6)
    assert bool((weights(pruned)[zeros] == 0).all())
    assert int((weights(pruned) == 0).sum()) == 90


def test_biases_and_norms_are_left_alone() -> None:
    pruned, fresh = network(), network()
    prune.prune(pruned, 0.9)
    for module in (0, 3):
        assert torch.equal(pruned[module].bias, fresh[module].bias)
    assert torch.equal(pruned[1].weight, fresh[1].weight)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_masks_keep_zeros_exact_through_momentum(optimizer: type[torch.optim.Optimizer]) -> None:
    pruned = network()
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    steps = optimizer(pruned.parameters(), lr=0.1, **momentum)
    for sparsity in (0.0, 0.5):
        prune.prune(pruned, sparsity)
        kept = prune.masks(pruned)
        for _ in range(3):
            steps.zero_grad()
            pruned(torch.randn(4, 2, 4, 4)).square().sum().backward()
            steps.step()
            prune.apply(pruned, kept)
    assert int((weights(pruned) == 0).sum()) == 75
