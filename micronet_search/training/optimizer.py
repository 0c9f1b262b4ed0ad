"""Optimizers by name, and the schedules of their learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from micronet_search.config.training import Training

MOMENTUM_SWING = 0.05
"""How far one-cycle moves the momentum, down while the rate rises and up while it falls."""


def create(network: nn.Module, config: Training, learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer of a network's parameters; only weights decay, not biases, norms and scales."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    groups = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    match config.optimizer:
        case "sgd":
            momentum = config.momentum
            return torch.optim.SGD(
                groups, lr=learning_rate, momentum=momentum, nesterov=momentum > 0
            )
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate, betas=(config.momentum, 0.999))
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=(config.momentum, 0.999))


def schedule(
    optimizer: torch.optim.Optimizer,
    config: Training,
    learning_rate: float,
    steps: int,
    warmup: int,
) -> LRScheduler:
    """The schedule over all `steps` of a stage.

    Args:
        optimizer: Its learning rate is set at every step.
        config: Names the schedule.
        learning_rate: The peak.
        steps: Optimizer steps in the stage.
        warmup: Steps of linear warm-up before the cosine.
    """
    if config.schedule.name == "one-cycle":
        return OneCycleLR(
            optimizer,
            learning_rate,
            total_steps=steps + 1,
            cycle_momentum=config.momentum > 0,
            base_momentum=max(0.0, config.momentum - MOMENTUM_SWING),
            max_momentum=min(0.999, config.momentum + MOMENTUM_SWING),
        )
    return LambdaLR(optimizer, lambda step: cosine(step, steps, warmup))


def cosine(step: int, steps: int, warmup: int = 0) -> float:
    """The factor at a step: a linear rise over `warmup`, then half a cosine down to zero.

    Source: Loshchilov and Hutter (2017), without restarts.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
