"""Which engine runs a study's trials."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

import torch

from micronet_search.config.sweep import Dataset, Execution
from micronet_search.data.splits import Splits
from micronet_search.engine.inline import Inline
from micronet_search.engine.slot import Slot, choose_device
from micronet_search.engine.work import Engine

INSTALL = "pip install 'micronet-search[ray]'"


def open_engine(
    splits: Splits, dataset: Dataset, execution: Execution, tell: Callable[[str], None]
) -> tuple[Engine, str]:
    """Makes the engine that a sweep asks for, and says which it is.

    Args:
        splits: What trials are trained on.
        dataset: Where other processes and nodes load it from.
        execution: Of the sweep.
        tell: Is told which engine it is, and later what happens to its slots.

    Returns:
        The engine, and the kind of its devices.

    Raises:
        ValueError: The device, Ray or its cluster cannot be used.
    """
    several = execution.address is not None or _slots(execution) > 1
    has_ray = find_spec("ray") is not None
    if execution.engine == "ray" or (execution.engine == "auto" and several and has_ray):
        if not has_ray:
            raise ValueError(f"execution.engine: found no Ray, expected it installed: {INSTALL}")
        return _open_ray(dataset, execution, tell)
    if execution.address is not None:
        raise ValueError(f"execution.address: found no Ray, expected it installed: {INSTALL}")
    if several:
        tell(f"Ray is not installed: one slot where there could be more; {INSTALL}")
    device = choose_device(execution.device)
    tell(f"engine inline: one slot on {device}")
    return Inline(Slot(splits, device, threads=None)), str(device)


def _open_ray(
    dataset: Dataset, execution: Execution, tell: Callable[[str], None]
) -> tuple[Engine, str]:
    from micronet_search.engine.ray.engine import Ray

    engine = Ray(dataset, execution, tell)
    share = execution.trials_per_device
    slots = "one slot" if share == 1 else f"{share} slots"
    tell(f"engine ray: {slots} for each device ({engine.device})")
    return engine, engine.device


def _slots(execution: Execution) -> int:
    """How many this machine could have."""
    device = choose_device(execution.device)
    every = device.type == "cuda" and device.index is None
    return (torch.cuda.device_count() if every else 1) * execution.trials_per_device
