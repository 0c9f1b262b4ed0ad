"""Fitting: averages, restoring, divergence."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from micronet_search.config.training import Training
from micronet_search.store import checkpoint
from micronet_search.training.fit import DivergenceError, Fit

Batch = tuple[Tensor, Tensor]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
    )


def batches(count: int, seed: int) -> list[Batch]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (
            torch.randn(8, 1, 4, 4, generator=generator),
            torch.eye(3)[torch.randint(3, (8,), generator=generator)],
        )
        for _ in range(count)
    ]


def fit(fitted: nn.Module, **changes: Any) -> Fit:
    config = Training.model_validate({"epochs": 3, "learning_rate": 0.05} | changes)
    return Fit(fitted, config, learning_rate=0.05, steps=12)


def nothing() -> None:
    pass


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_loss_is_the_mean_cross_entropy() -> None:
    fitted, seen = network(), batches(1, 0)
    logits = copy.deepcopy(fitted)(seen[0][0])
    smooth = seen[0][1] * 0.7 + 0.1
    expected = -(smooth * logits.log_softmax(1)).sum(1).mean()
    found = fit(fitted, label_smoothing=0.3).epoch(seen, nothing)
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_an_epoch_is_its_steps_by_hand() -> None:
    ours, theirs = network(), network()
    fit(ours, optimizer="sgd", momentum=0.0).epoch(batches(1, 0), nothing)
    ((images, targets),) = batches(1, 0)
    nn.functional.cross_entropy(theirs(images), targets).backward()
    for parameter in theirs.parameters():
        assert parameter.grad is not None
        parameter.data.add_(parameter.grad, alpha=-0.05)
    for found, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(found, expected)


def test_the_gradient_is_clipped() -> None:
    clipped, before = network(), network()
    fit(clipped, optimizer="sgd", momentum=0.0, gradient_clip=1e-3).epoch(batches(1, 0), nothing)
    moved = [(a - b).norm() for a, b in zip(clipped.parameters(), before.parameters(), strict=True)]
    assert torch.stack(moved).norm().item() == pytest.approx(0.05 * 1e-3, rel=1e-2)


def test_the_average_of_a_known_sequence() -> None:
    """1, 2, 3 after the steps; the first is where the average starts."""
    fitted = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.BatchNorm1d(2))
    running = fit(fitted, ema=0.75)
    after = iter([1.0, 2.0, 3.0])

    def set_all() -> None:
        value = next(after)
        for tensor in (fitted[1].weight, fitted[2].running_mean):
            tensor.data.fill_(value)

    images = torch.randn(4, 1)
    running.epoch([(images, torch.eye(2)[[0, 1, 0, 1]])] * 3, set_all)
    second = 0.75 * 1.0 + 0.25 * 2.0
    third = 0.75 * second + 0.25 * 3.0
    judged = running.judged
    assert judged is not fitted
    assert judged[1].weight[0].item() == pytest.approx(third)
    assert judged[2].running_mean[0].item() == pytest.approx(third)
    assert fitted[1].weight[0].item() == 3.0
    running.finish()
    assert fitted[1].weight[0].item() == pytest.approx(third)
    assert same(fitted, judged)


def test_without_an_average_the_network_is_judged() -> None:
    fitted = network()
    assert fit(fitted).judged is fitted


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "muon"])
@pytest.mark.parametrize("schedule", ["cosine", "one-cycle", "linear", "multi-step"])
@pytest.mark.parametrize("ema", [None, 0.9], ids=["plain", "ema"])
def test_restored_it_goes_on_bit_by_bit(name: str, schedule: str, ema: float | None) -> None:
    settings = {"optimizer": name, "schedule": schedule, "ema": ema, "weight_decay": 0.01}
    whole = network()
    running = fit(whole, **settings)
    running.epoch(batches(4, 0), nothing)
    state = {"network": dict(whole.state_dict()), "fit": running.state()}
    saved = checkpoint.pack(*checkpoint.flatten(state))
    running.epoch(batches(4, 1), nothing)

    resumed = network()
    state = checkpoint.unflatten(*checkpoint.unpack(saved))
    resumed.load_state_dict(state["network"])
    again = fit(resumed, **settings)
    again.restore(state["fit"])
    again.epoch(batches(4, 1), nothing)
    assert same(resumed, whole)
    assert same(again.judged, running.judged)
    assert again.optimizer.param_groups[0]["lr"] == running.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_divergence(value: float) -> None:
    ((images, targets),) = batches(1, 0)
    with pytest.raises(DivergenceError, match="the training loss became nan"):
        fit(network()).epoch([(images * value, targets)], nothing)


def test_every_step_is_followed_by_the_call() -> None:
    calls: list[None] = []
    fit(network()).epoch(batches(4, 0), lambda: calls.append(None))
    assert len(calls) == 4
