"""Soft targets by hand, and a teacher that stays as it is."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from micronet_search.config.training import Training
from micronet_search.training.fit import Fit, SoftTargets


class Says(nn.Module):
    """A teacher that always says the same."""

    def __init__(self, *logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.logits


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.Flatten(), nn.Linear(16, 3)
    )


def test_the_loss_by_hand() -> None:
    """Softened by 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2; the second agrees."""
    teacher = Says([2 * math.log(3), 0.0], [1.0, 5.0])
    soft = SoftTargets(teacher, temperature=2.0, weight=0.5)
    student = torch.tensor([[7.0, 7.0], [0.0, 4.0]])
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    found = soft.loss(torch.zeros(2, 1), student)
    assert found.item() == pytest.approx(4 * divergence / 2, rel=1e-6)


def test_the_gradient_is_the_difference_of_the_softened_outputs() -> None:
    """d/dz T^2 KL = T (q - p), over the images (Hinton et al., 2015, equation 2)."""
    teacher = Says([1.0, -2.0, 0.5], [0.0, 3.0, 1.0])
    student = torch.tensor([[0.3, 0.2, -1.0], [2.0, 2.0, 0.0]], requires_grad=True)
    SoftTargets(teacher, 4.0, 0.5).loss(torch.zeros(2, 1), student).backward()
    expected = 4 * ((student / 4).softmax(1) - (teacher.logits / 4).softmax(1)) / 2
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected.detach())


@pytest.mark.parametrize("weight", [0.25, 1.0])
def test_a_fit_weighs_true_and_soft_targets(weight: float) -> None:
    generator = torch.Generator().manual_seed(0)
    images, targets = torch.randn(8, 1, 4, 4, generator=generator), torch.eye(3)[[0, 1, 2, 0] * 2]
    student = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    soft = SoftTargets(network(), 3.0, weight)
    logits = copy.deepcopy(student)(images)
    hard = -(targets * logits.log_softmax(1)).sum(1).mean()
    expected = (1 - weight) * hard + weight * soft.loss(images, logits)
    config = Training(epochs=1, learning_rate=0.1)
    fit = Fit(student, config, learning_rate=0.1, steps=1, soft_targets=soft)
    found = fit.epoch([(images, targets)], lambda: None)
    assert found == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_is_not_changed() -> None:
    teacher = network()
    before = copy.deepcopy(teacher.state_dict())
    soft = SoftTargets(teacher, 3.0, 0.5)
    student = network()
    config = Training(epochs=1, learning_rate=0.1, optimizer="adamw", weight_decay=0.1)
    fit = Fit(student, config, learning_rate=0.1, steps=4, soft_targets=soft)
    fit.epoch([(torch.randn(8, 1, 4, 4), torch.eye(3)[[0, 1, 2, 0] * 2])] * 4, lambda: None)
    assert not any(module.training for module in teacher.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())
    for name, tensor in teacher.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert not torch.equal(student[0].weight, teacher[0].weight)
