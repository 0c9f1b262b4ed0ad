"""Optimizers by name, Muon with AdamW among them, and the schedules of their learning rate."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from micronet_search.config.training import Cosine, Linear, MultiStep, OneCycle, Training

MOMENTUM_SWING = 0.05
"""How far one-cycle moves the momentum, down while the rate rises and up while it falls."""


def create(network: nn.Module, config: Training, learning_rate: float) -> Optimizer:
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
            return torch.optim.SGD(groups, lr, momentum, nesterov=momentum > 0, fused=fused)
        case "adam":
            return torch.optim.Adam(groups, lr, betas, fused=fused)
        case "adamw":
            return AdamW(groups, lr, betas, fused=fused)
        case "muon":
            return MuonWithAdamW(
                matrices, groups, lr=lr, momentum=momentum, weight_decay=decay, fused=fused
            )


def schedule(
    optimizer: Optimizer, config: Training, *, steps: int, first_step: int = 0, warmup: int = 0
) -> LRScheduler:
    """Makes a schedule, the peaks of which are the rates that the optimizer has.

    Args:
        optimizer: Whose rates it sets.
        config: Which schedule.
        steps: All of its steps.
        first_step: The step at which it begins, where the ones before are over.
        warmup: Steps of a linear rise. One-cycle has a rise of its own, and takes none.
    """
    chosen = config.schedule
    if not isinstance(chosen, OneCycle):
        return LambdaLR(optimizer, lambda step: factor(chosen, first_step + step, steps, warmup))
    one_cycle = partial(
        OneCycleLR,
        optimizer,
        [group["lr"] for group in optimizer.param_groups],
        total_steps=steps + 1,
        cycle_momentum=config.momentum > 0,
        base_momentum=max(0.0, config.momentum - MOMENTUM_SWING),
        max_momentum=min(0.999, config.momentum + MOMENTUM_SWING),
    )
    begun = one_cycle()
    # one that begins later reads what the first one has left in the optimizer's groups
    return one_cycle(last_epoch=first_step - 1) if first_step else begun


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


class MuonWithAdamW(Optimizer):
    """Applies Muon (Jordan et al., 2024) to weights as matrices, and AdamW to other parameters.

    Muon's steps have the size of AdamW's (Liu et al., 2025), so that both take one learning rate.
    The weights keep their storage while it lives.
    """

    def __init__(
        self,
        weights: list[nn.Parameter],
        others: list[dict[str, Any]],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        fused: bool | None = None,
    ) -> None:
        """Makes Muon for weights (outputs, ...), and AdamW, with momentum as its first beta."""
        self._weights = weights
        self._matrices = [_as_matrix(w, w) for w in weights]
        options: dict[str, Any] = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay}
        self._muon = torch.optim.Muon(self._matrices, **options, adjust_lr_fn="match_rms_adamw")
        self._adamw = AdamW(others, lr=lr, betas=(momentum, 0.999), fused=fused)
        groups = [*self._muon.param_groups, *self._adamw.param_groups]
        # a schedule that moves the momentum asks the defaults for it, and sets it in every group
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Calls the closure, if there is one, and moves all parameters that have a gradient."""
        loss = None if closure is None else closure()
        for weight, matrix in zip(self._weights, self._matrices, strict=True):
            matrix.grad = None
            if weight.grad is not None:
                matrix.grad = _as_matrix(weight.grad, weight)
        for group in self._adamw.param_groups:
            group["betas"] = (group["momentum"], group["betas"][1])
        self._muon.step()
        self._adamw.step()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forgets the gradients."""
        super().zero_grad(set_to_none)
        for weight in self._weights:
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Returns the states of both, with Muon's momenta in the shapes of the weights."""
        muon = self._mapped(self._muon.state_dict(), _as_weight)
        return {"muon": muon, "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues from the states of both, whatever the order of the weights in memory."""
        self._muon.load_state_dict(self._mapped(state_dict["muon"], _as_matrix))
        self._adamw.load_state_dict(state_dict["adamw"])
        self.param_groups = [*self._muon.param_groups, *self._adamw.param_groups]

    def _mapped(
        self, muon: dict[str, Any], change: Callable[[Tensor, Tensor], Tensor]
    ) -> dict[str, Any]:
        """Applies a function of a momentum and its weight to all momenta of a state of Muon."""
        changed = {
            index: {name: change(value, self._weights[int(index)]) for name, value in state.items()}
            for index, state in muon["state"].items()
        }
        return muon | {"state": changed}


def _as_weight(matrix: Tensor, weight: Tensor) -> Tensor:
    order = _memory_order(weight)
    permuted = matrix.view(len(weight), *(weight.shape[dim] for dim in order))
    return permuted.permute(0, *(1 + order.index(dim) for dim in range(1, weight.dim())))


def _as_matrix(value: Tensor, weight: Tensor) -> Tensor:
    """Puts the dimensions after the first into the memory order of the weight, and joins them.

    Only so a weight whose channels are last is a matrix without being copied.
    """
    return value.detach().permute(0, *_memory_order(weight)).reshape(len(weight), -1)


def _memory_order(weight: Tensor) -> list[int]:
    return sorted(range(1, weight.dim()), key=weight.stride, reverse=True)
