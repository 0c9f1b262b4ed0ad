"""Optimizers and schedules against torch's own."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from micronet_search.compression.quantize import WeightQuantizer
from micronet_search.config.training import Training
from micronet_search.training import optimizer

STEPS = 20


def config(**changes: Any) -> Training:
    return Training.model_validate({"epochs": 4, "learning_rate": 0.1} | changes)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))


def rates(steps: int = STEPS, warmup: int = 0, **changes: Any) -> list[float]:
    """The learning rate of each step."""
    made = optimizer.create(network(), config(**changes), 0.1)
    schedule = optimizer.schedule(made, config(**changes), 0.1, steps, warmup)
    found = []
    for _ in range(steps):
        found.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_only_weights_decay(name: str) -> None:
    made = optimizer.create(network(), config(optimizer=name, weight_decay=0.01), 0.1)
    decays = {p.dim(): g["weight_decay"] for g in made.param_groups for p in g["params"]}
    assert decays == {4: 0.01, 2: 0.01, 1: 0.0}


def test_scales_do_not_decay() -> None:
    made = optimizer.create(WeightQuantizer(4, 8), config(weight_decay=0.01), 0.1)
    assert [len(g["params"]) for g in made.param_groups] == [0, 1]


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        pytest.param(
            "sgd",
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01),
            id="sgd",
        ),
        pytest.param(
            "adam",
            lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.8, 0.999), weight_decay=0.01),
            id="adam",
        ),
        pytest.param(
            "adamw",
            lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.8, 0.999), weight_decay=0.01),
            id="adamw",
        ),
    ],
)
def test_steps_are_torchs(name: str, reference: Any) -> None:
    ours, theirs = nn.Linear(5, 3, bias=False), nn.Linear(5, 3, bias=False)
    theirs.load_state_dict(ours.state_dict())
    made = optimizer.create(ours, config(optimizer=name, momentum=0.8, weight_decay=0.01), 0.1)
    for layer, steps in ((ours, made), (theirs, reference(theirs.parameters()))):
        for factor in (1.0, -2.0, 0.5):
            steps.zero_grad()
            (layer(torch.ones(2, 5)) * factor).square().sum().backward()
            steps.step()
    assert torch.equal(ours.weight, theirs.weight)


def test_one_step_of_nesterov_by_hand() -> None:
    """Torch's form: the velocity is g, and the step is lr (g + momentum velocity)."""
    layer = nn.Linear(1, 1, bias=False)
    layer.weight.data.fill_(2.0)
    made = optimizer.create(
        layer, config(optimizer="sgd", momentum=0.9, weight_decay=0.5), learning_rate=0.1
    )
    layer(torch.ones(1, 1)).sum().backward()
    made.step()
    gradient = 1.0 + 0.5 * 2.0
    assert layer.weight.item() == pytest.approx(2.0 - 0.1 * (gradient + 0.9 * gradient))


def test_without_momentum_sgd_is_plain() -> None:
    assert not optimizer.create(network(), config(optimizer="sgd", momentum=0.0), 0.1).defaults[
        "nesterov"
    ]


def test_cosine_is_torchs() -> None:
    made = torch.optim.SGD(network().parameters(), lr=0.1)
    schedule = CosineAnnealingLR(made, STEPS)
    expected = []
    for _ in range(STEPS):
        expected.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert rates() == pytest.approx(expected)


def test_one_cycle_is_torchs() -> None:
    made = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    schedule = OneCycleLR(made, 0.1, total_steps=STEPS + 1)
    expected = []
    for _ in range(STEPS):
        expected.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    assert rates(schedule="one-cycle") == pytest.approx(expected)
    assert max(expected) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_short_stages_have_rates(schedule: str, steps: int) -> None:
    assert all(0.0 < rate <= 0.1 for rate in rates(steps, schedule=schedule))


def test_warmup_rises_evenly_to_the_peak() -> None:
    found = rates(steps=10, warmup=4)
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert found[5:] == sorted(found[5:], reverse=True)
    assert optimizer.cosine(10, 10, 4) == pytest.approx(0.0)


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.98])
def test_one_cycle_swings_around_the_momentum(momentum: float) -> None:
    asked = config(optimizer="sgd", momentum=momentum, schedule="one-cycle")
    found = optimizer.create(network(), asked, 0.1)
    schedule = optimizer.schedule(found, asked, 0.1, STEPS, 0)
    seen = []
    for _ in range(STEPS):
        seen.append(found.param_groups[0]["momentum"])
        found.step()
        schedule.step()
    assert max(seen) == pytest.approx(min(momentum + 0.05, 0.999))
    assert min(seen) == pytest.approx(momentum - 0.05, abs=0.01)
