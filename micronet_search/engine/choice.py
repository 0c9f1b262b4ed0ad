"""Which engine and which device a study's trials run on."""

import os
from collections.abc import Callable
from importlib.util import find_spec

import torch

from micronet_search.config.sweep import MOST_BY_ITSELF, Dataset, Execution
from micronet_search.data.splits import Splits
from micronet_search.engine.slot import Inline, Slot
from micronet_search.engine.work import Engine

INSTALL = "pip install 'micronet-search[ray]'"


def open_engine(
    splits: Splits, dataset: Dataset, execution: Execution, tell: Callable[[str], None]
) -> tuple[Engine, str]:
    """Creates the engine that a sweep asks for, and returns it with the kind of its devices.

    The dataset is loaded for trials in this process; other processes and nodes load it themselves.
    `tell` receives a line that names the engine, and later lines about its slots. A device, or a
    cluster, that cannot be used is a ValueError.
    """
    several = execution.address is not None or _possible_slots(execution) > 1
    wants_ray = execution.engine == "ray" or (execution.engine == "auto" and several)
    if wants_ray and find_spec("ray") is not None:
        from micronet_search.engine.ray.engine import Ray

        engine = Ray(dataset, execution, tell)
        share = execution.trials_per_device
        slots = {1: "one slot", "auto": f"up to {MOST_BY_ITSELF} slots"}
        tell(f"engine ray: {slots.get(share, f'{share} slots')} for each device ({engine.device})")
        return engine, engine.device
    if execution.engine == "ray" or execution.address is not None:
        option = "engine" if execution.engine == "ray" else "address"
        raise ValueError(f"execution.{option}: found no Ray, expected it installed: {INSTALL}")
    if wants_ray:
        tell(f"Ray is not installed, so there is one slot in place of several; {INSTALL}")
    device = choose_device(execution.device)
    tell(f"engine inline: one slot on {device}")
    return Inline(Slot(splits, device, threads=None)), str(device)


def _possible_slots(execution: Execution) -> int:
    device = choose_device(execution.device)
    is_every_gpu = device.type == "cuda" and device.index is None
    devices = torch.cuda.device_count() if is_every_gpu else 1
    return devices * execution.slots_of_device((os.cpu_count() or 1) / devices)


def choose_device(name: str) -> torch.device:
    """Returns the device called `auto`, `cpu`, `cuda` or `cuda:N`, if it is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    if (f"{name}:0" if name == "cuda" else name) not in known:
        raise ValueError(f"found no device {name}, expected one of {', '.join(known)}")
    return torch.device(name)
