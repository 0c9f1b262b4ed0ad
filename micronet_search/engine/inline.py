"""The engine that runs trials in the driver's own process, one at a time."""

from __future__ import annotations

from collections.abc import Generator

import torch

from micronet_search.config.network import Input
from micronet_search.data.splits import Splits
from micronet_search.engine.work import Event, Job, Order, work


class Inline:
    """One slot: `start` a job, then `wait` for its events and answer each with `order`."""

    slots = 1

    def __init__(self, splits: Splits, device: torch.device) -> None:
        """Keeps the dataset on the device.

        Args:
            splits: The dataset.
            device: Where trials run.
        """
        self._splits = splits.to(device)
        self._device = device
        self._job: Job | None = None
        self._work: Generator[Event, Order, None] | None = None
        self._order: Order | None = None

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the trials that hold a slot."""
        return () if self._job is None else (self._job.number,)

    @property
    def shape(self) -> tuple[Input, int]:
        """The shape of an image, and the number of classes."""
        return self._splits.input, self._splits.classes

    def start(self, job: Job) -> None:
        """Gives a job to a free slot."""
        assert self._job is None
        self._job, self._order = job, None
        self._work = work(job, self._splits, self._device)

    def wait(self) -> tuple[int, Event]:
        """Runs until something happens, and says what, in which trial."""
        assert self._job is not None
        assert self._work is not None
        number = self._job.number
        event = next(self._work) if self._order is None else self._work.send(self._order)
        return number, event

    def order(self, number: int, order: Order) -> None:
        """Answers the last event of a trial."""
        assert self.running == (number,)
        self._order = order

    def release(self, number: int) -> None:
        """Frees the slot of a trial that has ended, or is left paused at its checkpoint."""
        assert self.running == (number,)
        assert self._work is not None
        self._work.close()
        self._job = self._work = None


def choose_device(name: str) -> torch.device:
    """The device of a name: `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises:
        ValueError: There is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = _devices()
    if (f"{name}:0" if name == "cuda" else name) not in known:
        raise ValueError(f"found no device {name}, expected one of {', '.join(known)}")
    return torch.device(name)


def _devices() -> list[str]:
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
