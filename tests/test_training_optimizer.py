"""Optimizers and schedules against torch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
)

from micronet_search.compression.quantizers import WeightQuantizer
from micronet_search.config.training import Cosine, Linear, Training
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
    schedule = optimizer.schedule(made, config(**changes), steps=steps, warmup=warmup)
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
            lambda p: torch.optim.SGD(
                p, lr=0.1, momentum=0.8, nesterov=True, weight_decay=0.01, fused=True
            ),
            id="sgd",
        ),
        pytest.param(
            "adam",
            lambda p: torch.optim.Adam(
                p, lr=0.1, betas=(0.8, 0.999), weight_decay=0.01, fused=True
            ),
            id="adam",
        ),
        pytest.param(
            "adamw",
            lambda p: torch.optim.AdamW(
                p, lr=0.1, betas=(0.8, 0.999), weight_decay=0.01, fused=True
            ),
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


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
def test_steps_are_the_same_in_every_memory_layout(name: str) -> None:
    """Torch's fused steps take gradients and state for as they lie in memory."""
    layouts = (torch.contiguous_format, torch.channels_last)
    ours, theirs = (network().to(memory_format=layout) for layout in layouts)
    for found in (ours, theirs):
        made = optimizer.create(found, config(optimizer=name, weight_decay=0.01), 0.01)
        for seed in range(3):
            made.zero_grad()
            images = torch.randn(8, 2, 4, 4, generator=torch.Generator().manual_seed(seed))
            found(images).square().sum().backward()
            made.step()
    for parameter, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        # the bias before the norm has no gradient but noise
        if parameter is not ours[0].bias:
            torch.testing.assert_close(parameter, expected, rtol=1e-3, atol=1e-4)


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


def torchs(make: Callable[[torch.optim.Optimizer], LRScheduler], steps: int) -> list[float]:
    made = torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9)
    schedule = make(made)
    found = []
    for _ in range(steps):
        found.append(made.param_groups[0]["lr"])
        made.step()
        schedule.step()
    return found


def test_cosine_is_torchs() -> None:
    assert rates() == pytest.approx(torchs(lambda made: CosineAnnealingLR(made, STEPS), STEPS))


def test_one_cycle_is_torchs() -> None:
    expected = torchs(lambda made: OneCycleLR(made, 0.1, total_steps=STEPS + 1), STEPS)
    assert rates(schedule="one-cycle") == pytest.approx(expected)
    assert max(expected) == pytest.approx(0.1, rel=0.01)


@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "linear", "multi-step"])
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_short_stages_have_rates(schedule: str, steps: int) -> None:
    assert all(0.0 < rate <= 0.1 for rate in rates(steps, schedule=schedule))


def test_warmup_rises_evenly_to_the_peak() -> None:
    found = rates(steps=10, warmup=4)
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert found[5:] == sorted(found[5:], reverse=True)


@pytest.mark.parametrize(
    "chosen", [Cosine(name="cosine"), Cosine(name="cosine", restarts=2), Linear(name="linear")]
)
def test_after_the_last_step_the_rate_is_zero(chosen: Cosine | Linear) -> None:
    assert optimizer.factor(chosen, 10, 10, 4) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("schedule", "reference"),
    [
        pytest.param(
            {"name": "cosine", "restarts": 3},
            lambda made: CosineAnnealingWarmRestarts(made, 7),
            id="restarts",
        ),
        pytest.param({"name": "linear"}, lambda made: LinearLR(made, 1.0, 0.0, 28), id="linear"),
        pytest.param(
            {"name": "multi-step"}, lambda made: MultiStepLR(made, [14, 21]), id="multi-step"
        ),
        pytest.param(
            {"name": "multi-step", "milestones": [0.25], "factor": 0.3},
            lambda made: MultiStepLR(made, [7], 0.3),
            id="one-milestone",
        ),
    ],
)
def test_a_schedule_is_torchs(
    schedule: dict[str, Any], reference: Callable[[torch.optim.Optimizer], LRScheduler]
) -> None:
    assert rates(28, schedule=schedule) == pytest.approx(torchs(reference, 28))


@pytest.mark.parametrize("steps", [9, 10, 11])
def test_restarts_begin_at_the_peak_and_no_other_rate_rises(steps: int) -> None:
    found = rates(steps, schedule={"name": "cosine", "restarts": 2})
    rises = [step for step in range(1, steps) if found[step] > found[step - 1]]
    assert rises == [math.ceil(steps * part / 3) for part in (1, 2)]
    assert found[0] == pytest.approx(0.1)


def test_every_half_cosine_comes_after_the_warm_up() -> None:
    found = rates(12, warmup=4, schedule={"name": "cosine", "restarts": 1})
    assert found[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert found[4:8] == pytest.approx(found[8:])


def test_milestones_are_shares_of_the_whole_stage() -> None:
    found = rates(10, warmup=2, schedule={"name": "multi-step", "milestones": [0.3, 0.7]})
    assert found[2:] == pytest.approx([0.1] + [0.01] * 4 + [0.001] * 3)


@pytest.mark.parametrize("name", ["cosine", "linear", "multi-step", "one-cycle"])
def test_a_stage_takes_up_the_schedule_where_the_one_before_left_it(name: str) -> None:
    asked = config(optimizer="sgd", schedule=name, warmup=0 if name == "one-cycle" else 3)
    whole = groups(asked, 0)
    assert groups(asked, 7) == pytest.approx(whole[14:])


def groups(asked: Training, first_step: int) -> list[float]:
    """The rate and the momentum of each step from the first one to the last."""
    made = optimizer.create(network(), asked, 0.1)
    schedule = optimizer.schedule(made, asked, steps=12, first_step=first_step, warmup=asked.warmup)
    seen = []
    for _ in range(first_step, 12):
        seen += [made.param_groups[0]["lr"], made.param_groups[0]["momentum"]]
        made.step()
        schedule.step()
    return seen


@pytest.mark.parametrize("momentum", [0.5, 0.9, 0.98])
def test_one_cycle_swings_around_the_momentum(momentum: float) -> None:
    asked = config(optimizer="sgd", momentum=momentum, schedule="one-cycle")
    found = optimizer.create(network(), asked, 0.1)
    schedule = optimizer.schedule(found, asked, steps=STEPS)
    seen = []
    for _ in range(STEPS):
        seen.append(found.param_groups[0]["momentum"])
        found.step()
        schedule.step()
    assert max(seen) == pytest.approx(min(momentum + 0.05, 0.999))
    assert min(seen) == pytest.approx(momentum - 0.05, abs=0.01)
