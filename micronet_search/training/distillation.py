"""Learning from a teacher's outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div, log_softmax


class SoftTargets:
    """The softened outputs of a teacher (Hinton et al., 2015)."""

    def __init__(self, network: nn.Module, temperature: float, weight: float) -> None:
        """Freezes the teacher and puts it into evaluation.

        Args:
            network: The teacher, on the student's device.
            temperature: Divides the logits of both networks.
            weight: Share of the soft targets in the loss; the true ones have the rest.
        """
        self.network = network.eval().requires_grad_(False)
        self.temperature = temperature
        self.weight = weight

    def loss(self, images: Tensor, logits: Tensor) -> Tensor:
        """Returns how far a student is from the teacher.

        The teacher computes in bfloat16 where the caller does, under the student's autocast.

        Args:
            images: Normalised, float32 (B, C, H, W).
            logits: The student's, (B, classes).

        Returns:
            The mean over the images of T^2 KL(teacher || student), both softened by the
            temperature T. The factor T^2 keeps the size of the gradient at any temperature.
        """
        with torch.no_grad():
            taught = self.network(images)
        student, teacher = (
            log_softmax(each.float() / self.temperature, 1) for each in (logits, taught)
        )
        divergence = kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence
