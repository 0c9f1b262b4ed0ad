"""Zeros: how many, which, and that they stay."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from micronet_search.compression.pruning import TECHNIQUE, prunable, prune, sparsity_at
from micronet_search.config.compression import Pruning
from micronet_search.network.precision import layers_of


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.Flatten(), nn.Linear(20, 3))


def weights(pruned: nn.Sequential) -> torch.Tensor:
    return torch.cat([pruned[0].weight.flatten(), pruned[3].weight.flatten()]).detach()


def asked(**pruning: Any) -> Pruning:
    return Pruning.model_validate({"sparsity": 0.8} | pruning)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [(0.0, 0.0), (0.25, 0.4625), (0.5, 0.7), (0.75, 0.7875), (1.0, 0.8), (1.5, 0.8)],
)
def test_the_cubic_rise(progress: float, expected: float) -> None:
    assert sparsity_at(asked(), progress) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        pytest.param(0.0, 0.0, id="before"),
        pytest.param(0.1, 0.2, id="round-1"),
        pytest.param(1 / 3, 0.2, id="round-1-is-over"),
        pytest.param(0.5, 0.36, id="round-2"),
        pytest.param(2 / 3, 0.36, id="round-2-is-over"),
        pytest.param(0.7, 0.488, id="round-3"),
        pytest.param(1.0, 0.488, id="end"),
        pytest.param(1.7, 0.488, id="beyond"),
    ],
)
def test_each_round_removes_a_fifth_of_what_is_left(progress: float, expected: float) -> None:
    pruning = asked(schedule="iterative", rounds=3, sparsity=0.488)
    assert sparsity_at(pruning, progress) == pytest.approx(expected)


@given(st.integers(2, 100))
def test_rounds_are_equally_long(rounds: int) -> None:
    """Of two epochs each, seen from the end of each epoch."""
    pruning = asked(schedule="iterative", rounds=rounds)
    for epoch in range(2 * rounds):
        expected = 1.0 - 0.2 ** ((epoch // 2 + 1) / rounds)
        found = sparsity_at(pruning, (epoch + 1) / (2 * rounds))
        assert found == pytest.approx(expected)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_in_one_shot_all_go_at_once(progress: float) -> None:
    assert sparsity_at(asked(schedule="one-shot"), progress) == 0.8


@settings(max_examples=30)
@given(st.floats(0.0, 1.0, exclude_max=True), st.integers(0, 3))
def test_the_smallest_of_all_layers_are_zero(sparsity: float, seed: int) -> None:
    pruned = network(seed)
    before = weights(pruned)
    prune(pruned, sparsity)
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
    prune(pruned, sparsity)
    assert int((weights(pruned) == 0).sum()) == zeros


def test_equal_weights_are_counted_one_by_one() -> None:
    layer = nn.Sequential(nn.Linear(10, 2))
    layer[0].weight.data.fill_(0.5)
    prune(layer, 0.35)
    assert int((layer[0].weight == 0).sum()) == 7


def test_what_is_zero_stays_pruned_as_the_sparsity_rises() -> None:
    pruned = network()
    prune(pruned, 0.4)
    zeros = weights(pruned) == 0
    prune(pruned, 0.6)
    assert bool((weights(pruned)[zeros] == 0).all())
    assert int((weights(pruned) == 0).sum()) == 90


def test_biases_and_norms_are_left_alone() -> None:
    pruned, fresh = network(), network()
    prune(pruned, 0.9)
    for module in (0, 3):
        assert torch.equal(pruned[module].bias, fresh[module].bias)
    assert torch.equal(pruned[1].weight, fresh[1].weight)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_masks_keep_zeros_exact_through_momentum(optimizer: type[torch.optim.Optimizer]) -> None:
    pruned = network()
    momentum = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    steps = optimizer(pruned.parameters(), lr=0.1, **momentum)
    for sparsity in (0.0, 0.5):
        prune(pruned, sparsity)
        keep_zeros = TECHNIQUE.after_step(pruned)
        for _ in range(3):
            steps.zero_grad()
            pruned(torch.randn(4, 2, 4, 4)).square().sum().backward()
            steps.step()
            keep_zeros(pruned)
    assert int((weights(pruned) == 0).sum()) == 75


def blocks_network() -> nn.Sequential:
    """With the names of a network of two blocks."""
    torch.manual_seed(0)
    parts: dict[str, nn.Module] = {
        "stem": nn.Conv2d(3, 4, 3, bias=False),
        "block1": nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.Conv2d(4, 6, 1)),
        "block10": nn.Sequential(nn.Conv2d(6, 6, 3, groups=2)),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(6, 2),
    }
    return nn.Sequential(OrderedDict(parts))


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        pytest.param((), ["stem", "block1.0", "block1.1", "block10.0", "classifier"], id="none"),
        pytest.param(("first",), ["block1.0", "block1.1", "block10.0", "classifier"], id="first"),
        pytest.param(("last",), ["stem", "block1.0", "block1.1", "block10.0"], id="last"),
        pytest.param(
            ("depthwise",), ["stem", "block1.1", "block10.0", "classifier"], id="depthwise"
        ),
        pytest.param(("block1",), ["stem", "block10.0", "classifier"], id="block1-not-block10"),
        pytest.param(("block1", "block10", "first", "last"), [], id="all"),
    ],
)
def test_layers_that_are_pruned_by_name(exclude: tuple[str, ...], expected: list[str]) -> None:
    assert list(prunable(blocks_network(), exclude)) == expected


def test_excluded_layers_are_left_alone_and_out_of_the_sparsity() -> None:
    pruned, fresh = blocks_network(), blocks_network()
    prune(pruned, 0.5, ("first", "block10"))
    zeros = {n: int((layer.weight == 0).sum()) for n, layer in layers_of(pruned).items()}
    assert zeros["stem"] == zeros["block10.0"] == 0
    assert sum(zeros.values()) == 36  # of 36 + 24 + 12
    assert torch.equal(pruned.stem.weight, fresh.stem.weight)


def test_where_all_are_excluded_nothing_is_pruned() -> None:
    pruned, fresh = blocks_network(), blocks_network()
    prune(pruned, 0.5, ("block1", "block10", "first", "last"))
    assert torch.equal(torch.cat(masked(pruned)), torch.cat(masked(fresh)))


def masked(network: nn.Module) -> list[torch.Tensor]:
    return [(layer.weight != 0).flatten() for layer in layers_of(network).values()]
