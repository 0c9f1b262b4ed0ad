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
    """Makes the optimizer of a network. Weights decay; biases, norms and scales do not."""
    weights = [p for p in network.parameters() if p.dim() > 1]
    others = [p for p in network.parameters() if p.dim() <= 1]
    matrices: list[nn.Parameter] = []
    if config.optimizer == "muon":
        # AdamW has the classifier, or its factors
        linear = {m.weight for m in network.modules() if isinstance(m, nn.Linear)}
        matrices = [p for p in weights if p not in linear]
        weights = [p for p in weights if p in linear]
    lr, decay, momentum = learning_rate, config.weight_decay, config.momentum
    groups = [{"params": weights, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]
    # one call for all parameters; on a GPU torch chooses by itself
    fused = True if all(p.is_cpu for p in others) else None
    betas = (momentum, 0.999)
    match config.optimizer:
        case "sgd":
            nesterov = momentum > 0
            return torch.optim.SGD(groups, lr, momentum, nesterov=nesterov, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr, betas, fused=fused)
        case "adamw":
            return torch.optim.AdamW(groups, lr, betas, fused=fused)
        case "muon":
            return MuonWithAdamW(
                matrices, groups, lr=lr, momentum=momentum, weight_decay=decay, fused=fused
            )


def schedule(
    optimizer: torch.optim.Optimizer,
    config: Training,
    learning_rate: float,
    steps: int,
    warmup: int,
) -> LRScheduler:
    """Makes the schedule of a stage of so many steps; one-cycle has a warm-up of its own."""
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
    """Returns the share of the peak rate at a step, after a linear rise over `warmup` steps.

    A cosine divides the steps after the warm-up evenly among its halves. A milestone is a share of
    all steps. The steps go from 0 to `steps`, which comes after the last one of the stage.
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
