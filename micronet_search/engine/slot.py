"""A slot: the place where one trial runs. It alone sets threads, device, seed and dataset."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator

import torch

from micronet_search.data.splits import Splits
from micronet_search.engine.work import Event, Job, Order, Trained, work


class Slot:
    """Runs one job after another, and keeps the dataset on the device between them.

    `begin` yields a job's events up to its first checkpoint or its end, and `go_on` those up to the
    next one.
    """

    def __init__(self, splits: Splits, device: torch.device, threads: int | None) -> None:
        """Moves the dataset to the device.

        Args:
            splits: The dataset that trials are trained on.
            device: Where trials run.
            threads: How many threads an operation on the CPU may use; None leaves PyTorch's number.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        self._device = device
        self._splits = splits.to(device)
        self._pausing = threading.Event()
        self._work: Generator[Event, Order | None, None] | None = None

    def begin(self, job: Job) -> Iterator[Event]:
        """Starts a job; the one before is forgotten."""
        self.clear()
        torch.manual_seed(job.seed)
        self._work = work(job, self._splits, self._device, self._pausing.is_set)
        return self.go_on(None)

    def go_on(self, order: Order | None) -> Iterator[Event]:
        """Continues the job: with an order after a checkpoint, without one at its beginning."""
        assert self._work is not None
        event = self._work.send(order)
        yield event
        while isinstance(event, Trained):
            event = next(self._work)
            yield event

    def pause(self) -> None:
        """Asks the job for a checkpoint after its epoch; another thread may call this."""
        self._pausing.set()

    def clear(self) -> None:
        """Forgets the job, and frees its memory on the device for others."""
        if self._work is not None:
            self._work.close()
            self._work = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
