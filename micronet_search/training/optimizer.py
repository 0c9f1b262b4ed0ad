"""Optimizers by name, and the schedules of their learning rate."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from micronet_search.config.training import Cosine, Linear, MultiStep, OneCycle, Training
from micronet_search.training.muon import MuonWithAdamW

MOMENTUM_SWING = 0.05
"""How far one-cycle moves the momentum, down while the rate rises and up while it falls."""


def create(network: nn.Module, config: Training, learning_rate: float) -> torch.optim.Optimizer:
    """The optimizer of a network's parameters; only weights decay, not biases, norms and scales."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    decay, momentum = config.weight_decay, config.momentum
    # one call for all parameters; on a GPU torch chooses by itself
    fused = True if all(p.is_cpu for p in others) else None
    if config.optimizer == "muon":
        # the classifier, or its factors
        linear = {m.weight for m in network.modules() if isinstance(m, nn.Linear)}
        return MuonWithAdamW(
            [p for p in weights if p not in linear],
            [
                {"params": [p for p in weights if p in linear], "weight_decay": decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=learning_rate,
            momentum=momentum,
            weight_decay=decay,
            fused=fused,
        )
    groups = [
        {"params": weights, "weight_decay": decay},
        {"params": others, "weight_decay": 0.0},
    ]
    match config.optimizer:
        case "sgd":
            return torch.optim.SGD(
                groups,
                lr=learning_rate,
                momentum=momentum,
                nesterov=momentum > 0,
                fused=fused,
            )
        case "adam":
            return torch.optim.Adam(groups, lr=learning_rate, betas=(momentum, 0.999), fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr=learning_rate, betas=(momentum, 0.999), fused=fused)


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
        warmup: Steps of linear warm-up before the schedule; no part of one-cycle.
    """
    chosen = config.schedule
    if isinstance(chosen, OneCycle):
        return OneCycleLR(
            optimizer,
            learning_rate,
            total_steps=steps + 1,
            cycle_momentum=config.momentum > 0,
            base_momentum=max(0.0, config.momentum - MOMENTUM_SWING),
            max_momentum=min(0.999, config.momentum + MOMENTUM_SWING),
        )
    return LambdaLR(optimizer, lambda step: factor(chosen, step, steps, warmup))


def factor(chosen: Cosine | Linear | MultiStep, step: int, steps: int, warmup: int = 0) -> float:
    """What the peak is multiplied by at a step, after a linear rise over `warmup` steps.

    Args:
        chosen: The schedule. A cosine divides the steps after the warm-up evenly among its halves;
            a milestone is a share of all steps.
        step: 0 to `steps`, the first after the last one.
        steps: In the stage.
        warmup: Of these.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done, total = step - warmup, max(1, steps - warmup)
    match chosen:
        case Cosine(restarts=restarts):
            halves = done * (restarts + 1) / total
            return 0.5 * (1.0 + math.cos(math.pi * (halves - min(int(halves), restarts))))
        case Linear():
            return 1.0 - done / total
        case MultiStep(milestones=milestones, factor=drop):
            return drop ** sum(step / steps >= milestone for milestone in milestones)
