"""The actor that holds a slot in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ray
import torch

from micronet_search.config.sweep import Dataset
from micronet_search.data.splits import load
from micronet_search.engine.slot import Slot
from micronet_search.engine.work import Event, Job, Order

ASIDE = "aside"
"""The concurrency group of the calls that Ray makes in a second thread."""


class Member:
    """A slot in a process of its own.

    Ray makes its calls one after another in one thread, so the slot works on one job at a time. It
    calls `pause` in a second thread, while a job runs.
    """

    def open(self, dataset: Dataset, device: str, threads: int) -> str | None:
        """Creates the slot.

        Returns:
            Why this node cannot have a slot; None if it has one now.
        """
        if dataset.root is not None and not Path(dataset.root).is_dir():
            return f"found no folder {dataset.root}, expected the dataset there on every node"
        try:
            self._slot = Slot(load(dataset), torch.device(device), threads)
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def begin(self, job: Job) -> Iterator[Event]:
        """Starts a job, and streams its events up to the first checkpoint or the end."""
        yield from self._slot.begin(job)

    def go_on(self, order: Order) -> Iterator[Event]:
        """Continues the job, and streams its events up to the next checkpoint or the end."""
        yield from self._slot.go_on(order)

    @ray.method(concurrency_group=ASIDE)
    def pause(self) -> None:
        """Asks the job for a checkpoint after its epoch."""
        self._slot.pause()

    def clear(self) -> None:
        """Forgets the job."""
        self._slot.clear()
