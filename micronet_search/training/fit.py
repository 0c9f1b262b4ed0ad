"""Fitting a network, an epoch at a time, and judging what it predicts."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from micronet_search.config.training import Training
from micronet_search.training import optimizer


class DivergenceError(ArithmeticError):
    """The training loss is not a finite number."""


class SoftTargets:
    """The softened outputs of a teacher (Hinton et al., 2015)."""

    def __init__(
        self,
        network: nn.Module | None,
        temperature: float,
        weight: float,
        of_views: Tensor | None = None,
    ) -> None:
        """Freezes the teacher.

        Args:
            network: The teacher; None where its outputs are given.
            temperature: What divides the logits of teacher and student.
            weight: The share of the soft targets in the student's loss.
            of_views: The teacher's logits for each view of each image (VIEWS, N, classes).
        """
        self.network = None if network is None else network.eval().requires_grad_(False)
        self.temperature = temperature
        self.weight = weight
        self.of_views = of_views

    def loss(self, images: Tensor, logits: Tensor, taught: Tensor | None = None) -> Tensor:
        """Returns how far a student with these logits (B, classes) is from the teacher.

        It is the mean over the images of T^2 KL(teacher || student), both softened by the
        temperature T. The factor T^2 keeps the size of the gradient at any temperature. `taught`
        are the teacher's logits for these images. Without them the teacher computes, under the
        student's autocast.
        """
        if taught is None:
            assert self.network is not None
            with torch.no_grad():
                taught = self.network(images)
        student, teacher = (
            log_softmax(each.float() / self.temperature, 1) for each in (logits, taught)
        )
        divergence = kl_div(student, teacher, reduction="batchmean", log_target=True)
        return self.temperature**2 * divergence


class Fit:
    """Gradient descent on a network, over one stage of a trial."""

    def __init__(
        self,
        network: nn.Module,
        config: Training,
        *,
        learning_rate: float,
        steps: int,
        first_step: int = 0,
        warmup: int = 0,
        soft_targets: SoftTargets | None = None,
    ) -> None:
        """Starts a stage.

        Args:
            network: What is fitted, in place.
            config: How.
            learning_rate: The peak of the schedule.
            steps: All steps of the schedule.
            first_step: The step of the schedule at which the stage begins.
            warmup: Steps of the warm-up.
            soft_targets: What it learns beside the true targets.
        """
        self.network, self.config, self.soft_targets = network, config, soft_targets
        self.optimizer = optimizer.create(network, config, learning_rate)
        self.schedule = optimizer.schedule(
            self.optimizer, config, steps=steps, first_step=first_step, warmup=warmup
        )
        self.average: AveragedModel | None = None
        if config.ema is not None:
            average = get_ema_multi_avg_fn(config.ema)
            self.average = AveragedModel(network, multi_avg_fn=average, use_buffers=True)

    def epoch(self, batches: Iterable[tuple[Tensor, ...]], after_step: Callable[[], None]) -> float:
        """Trains on each batch once, and returns the mean loss.

        Batches are images (B, C, H, W), the probabilities of their classes (B, classes) and, if
        they are known, the teacher's logits (B, classes). After every step, `after_step` may change
        the network. A loss that is not finite is an error.
        """
        self.network.train()
        total, steps = torch.zeros((), device=next(self.network.parameters()).device), 0
        for images, targets, *taught in batches:
            total += self._step(images, targets, *taught)
            after_step()
            if self.average is not None:
                self.average.update_parameters(self.network)
            steps += 1
        loss = float(total) / max(1, steps)
        if not math.isfinite(loss):
            raise DivergenceError(f"the training loss became {loss}")
        return loss

    def _step(self, images: Tensor, targets: Tensor, taught: Tensor | None = None) -> Tensor:
        # bfloat16 pays on a GPU alone; CPUs without native support are slower in it
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
            logits, smoothing = self.network(images), self.config.label_smoothing
            loss = cross_entropy(logits.float(), targets, label_smoothing=smoothing)
            if (soft := self.soft_targets) is not None:
                loss = torch.lerp(loss, soft.loss(images, logits, taught), soft.weight)
        self.optimizer.zero_grad()
        loss.backward()
        if self.config.gradient_clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        self.optimizer.step()
        self.schedule.step()
        return loss.detach()

    @property
    def judged(self) -> nn.Module:
        """Returns the network to evaluate: the averaged one where weights are averaged."""
        return self.network if self.average is None else self.average.module

    def finish(self) -> None:
        """Puts the averaged weights into the network, where weights are averaged."""
        if self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())

    def state(self) -> dict[str, Any]:
        """Returns what `restore` needs beside the state of the network."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "schedule": {"last_epoch": self.schedule.last_epoch},
            "average": None if self.average is None else self.average.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continues the stage from a state that `state` returned."""
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, kept in self.optimizer.state.items():
            for name, value in kept.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    # in the memory layout of the parameter
                    kept[name] = torch.empty_like(parameter).copy_(value)
        self.schedule.last_epoch = state["schedule"]["last_epoch"]
        if self.average is not None:
            self.average.load_state_dict(state["average"])


@torch.no_grad()
def predictions(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Returns the class of each normalised image, int64 (images,), in single precision."""
    training = network.training
    network.eval()
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([network(images).argmax(1) for images in batches])
    finally:
        network.train(training)


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Returns the share of images, 0 to 1, whose label (N,) the network predicts."""
    hits = torch.cat([predictions(network, [images]) == labels for images, labels in batches])
    return int(hits.sum()) / len(hits)
