"""Muon beside AdamW against torch's own two."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from micronet_search.config.training import Training
from micronet_search.training import optimizer
from micronet_search.training.optimizer import MuonWithAdamW

LAYOUTS = pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])


def network(layout: torch.memory_format) -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(2, 6, 3, bias=False),  # a norm leaves it no gradient but noise
        nn.BatchNorm2d(6),
        nn.Conv2d(6, 6, 3, groups=3),
        nn.Conv2d(6, 4, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
        nn.Linear(5, 3),
    )
    return made.to(memory_format=layout)


def created(of: nn.Module) -> torch.optim.Optimizer:
    config = Training(
        epochs=4, learning_rate=0.1, optimizer="muon", momentum=0.8, weight_decay=0.01
    )
    return optimizer.create(of, config, 0.1)


def backward(of: nn.Module, seed: int) -> None:
    images = torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(seed))
    of(images).square().sum().backward()


@LAYOUTS
def test_steps_are_those_of_torchs_muon_and_adamw_on_copies(layout: torch.memory_format) -> None:
    ours, theirs = network(layout), network(torch.contiguous_format)
    steps = created(ours)
    weights = [theirs[layer].weight for layer in (0, 2, 3)]
    flat = [nn.Parameter(weight.detach().flatten(1).clone()) for weight in weights]
    muon = torch.optim.Muon(
        flat, lr=0.1, momentum=0.8, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
    )
    rest = [p for p in theirs.parameters() if p.dim() == 1]
    adamw = torch.optim.AdamW(
        [{"params": [theirs[6].weight, theirs[7].weight]}, {"params": rest, "weight_decay": 0.0}],
        lr=0.1,
        betas=(0.8, 0.999),
        weight_decay=0.01,
    )
    for seed in range(3):
        steps.zero_grad()
        backward(ours, seed)
        steps.step()
        theirs.zero_grad()
        backward(theirs, seed)
        for weight, matrix in zip(weights, flat, strict=True):
            assert weight.grad is not None
            matrix.grad = weight.grad.flatten(1)
        muon.step()
        adamw.step()
        for weight, matrix in zip(weights, flat, strict=True):
            weight.data.copy_(matrix.view_as(weight))
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        # the columns' order moves sums in bfloat16
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-2)


def test_linear_layers_biases_and_norms_are_adamws() -> None:
    made = created(network(torch.contiguous_format))
    assert isinstance(made, MuonWithAdamW)
    shapes = [sorted(tuple(p.shape) for p in group["params"]) for group in made.param_groups]
    assert shapes[0] == [(4, 6), (6, 18), (6, 18)]
    assert shapes[1] == [(3, 5), (5, 4)]  # a classifier and its factors
    assert {len(shape) for shape in shapes[2]} == {1}
    assert [group["weight_decay"] for group in made.param_groups] == [0.01, 0.01, 0.0]


@LAYOUTS
def test_a_state_goes_on_in_another_order_of_memory(layout: torch.memory_format) -> None:
    """As a trial does that is paused on a GPU and goes on on a CPU."""
    ours, unbroken = network(layout), network(torch.contiguous_format)
    steps, expected = created(ours), created(unbroken)
    for made, of in ((steps, ours), (expected, unbroken)):
        backward(of, 0)
        made.step()
    moved = network(torch.contiguous_format)
    moved.load_state_dict(ours.state_dict())
    resumed = created(moved)
    resumed.load_state_dict(steps.state_dict())
    for made, of in ((resumed, moved), (expected, unbroken)):
        made.zero_grad()
        backward(of, 1)
        made.step()
    for found, wanted in zip(moved.parameters(), unbroken.parameters(), strict=True):
        torch.testing.assert_close(found, wanted, atol=2e-3, rtol=2e-2)


@LAYOUTS
def test_a_step_has_the_size_of_adamws(layout: torch.memory_format) -> None:
    """Its root mean square is about 0.2 of the rate (Liu et al., 2025)."""
    made = network(layout)
    before = made[0].weight.detach().clone()
    steps = created(made)
    backward(made, 0)
    steps.step()
    moved = made[0].weight - before * (1 - 0.1 * 0.01)
    assert moved.square().mean().sqrt().item() == pytest.approx(0.2 * 0.1, rel=0.3)


def test_without_a_gradient_nothing_moves() -> None:
    made = network(torch.contiguous_format)
    steps = created(made)
    backward(made, 0)
    steps.step()
    steps.zero_grad()
    assert all(parameter.grad is None for parameter in made.parameters())
    before = [parameter.detach().clone() for parameter in made.parameters()]
    steps.step()
    for found, expected in zip(made.parameters(), before, strict=True):
        assert torch.equal(found, expected)


def test_one_cycle_moves_the_momentum_of_both() -> None:
    config = Training.model_validate(
        {"epochs": 4, "learning_rate": 0.1, "optimizer": "muon", "schedule": "one-cycle"}
    )
    made = network(torch.contiguous_format)
    steps = optimizer.create(made, config, 0.1)
    schedule = optimizer.schedule(steps, config, steps=10)
    seen = set()
    for _ in range(10):
        backward(made, 0)
        steps.step()
        momentum = steps.param_groups[0]["momentum"]
        assert all(group["betas"][0] == momentum for group in steps.param_groups[1:])
        seen.add(round(momentum, 6))
        schedule.step()
    assert max(seen) == pytest.approx(0.95)
    assert min(seen) == pytest.approx(0.85, abs=0.01)
