"""Learning from a teacher's outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax


class SoftTargets:
    """The softened outputs of a teacher (Hinton et al., 2015)."""

    def __init__(self, network: nn.Module, temperature: float, weight: float) -> None:
        """Freezes the teacher; `weight` is the share of the soft targets in the student's loss."""
        self.network = network.eval().requires_grad_(False)
        self.temperature = temperature
        self.weight = weight

    def loss(self, images: Tensor, logits: Tensor) -> Tensor:
        """Returns how far a student with these logits (B, classes) is from the teacher.

        It is the mean over the images of T^2 KL(teacher || student), both softened by the
        temperature T. The factor T^2 keeps the size of the gradient at any temperature. The teacher
        computes under the student's autocast.
        """
        with torch.no_grad():
            taught = self.network(images)
        student, teacher = (
            log_softmax(each.float() / self.temperature, 1) for each in (logits, taught)
        )
        divergence = kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence
