"""A place where one trial runs: its threads, device, seed and dataset are set here alone."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from pathlib import Path

import torch

from micronet_search.config.sweep import Dataset
from micronet_search.data import DataError
from micronet_search.data.splits import Splits
from micronet_search.engine.work import Event, Job, Order, Reached, work


class Slot:
    """Runs one job after another, and keeps the dataset on the device between them.

    The events of a job come in legs: `begin` gives those up to the first checkpoint, or to the end,
    and `go_on` those up to the next.
    """

    def __init__(self, splits: Splits, device: torch.device, threads: int | None) -> None:
        """Moves the dataset to the device.

        Args:
            splits: What trials are trained on.
            device: Where.
            threads: Of a network's operations on the processor; None leaves them as they are.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = device
        self._splits = splits.to(device)
        self._pausing = threading.Event()
        self._work: Generator[Event, Order | None, None] | None = None

    def begin(self, job: Job) -> Iterator[Event]:
        """Starts a job, in the place of the last one."""
        self.clear()
        torch.manual_seed(job.seed)
        self._work = work(job, self._splits, self._device, self._pausing.is_set)
        return self._leg(None)

    def go_on(self, order: Order) -> Iterator[Event]:
        """Continues the job after a checkpoint."""
        return self._leg(order)

    def pause(self) -> None:
        """Has the job report a checkpoint after its epoch. Another thread may call this."""
        self._pausing.set()

    def clear(self) -> None:
        """Forgets the job, and gives its memory to whoever shares the device."""
        if self._work is not None:
            self._work.close()
            self._work = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _leg(self, order: Order | None) -> Iterator[Event]:
        assert self._work is not None
        event = self._work.send(order)
        yield event
        while not isinstance(event, Reached):
            try:
                event = next(self._work)
            except StopIteration:
                return
            yield event


def require_folder(dataset: Dataset) -> None:
    """Refuses a node on which the dataset is not.

    Raises:
        DataError: Its folder is missing.
    """
    if dataset.root is not None and not Path(dataset.root).is_dir():
        raise DataError(f"found no folder {dataset.root}, expected the dataset there on every node")


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
