"""What lives in the process of a slot: Ray calls it through an actor."""

from __future__ import annotations

from collections.abc import Iterator

import ray
import torch

from micronet_search.config.sweep import Dataset
from micronet_search.data.splits import load
from micronet_search.engine.slot import Slot, require_folder
from micronet_search.engine.work import Event, Job, Order

ASIDE = "aside"


class Member:
    """A slot in a process of its own.

    Ray makes its calls one after another in one thread, so that the slot has one conversation at a
    time. It calls `pause` aside from them, in another thread, while a job runs.
    """

    def open(self, dataset: Dataset, device: str, threads: int) -> str | None:
        """Makes the slot.

        Returns:
            Why there can be none on this node; None where there is one.
        """
        try:
            require_folder(dataset)
            self._slot = Slot(load(dataset), torch.device(device), threads)
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def begin(self, job: Job) -> Iterator[Event]:
        """Streams what happens up to the first checkpoint, or to the end."""
        yield from self._slot.begin(job)

    def go_on(self, order: Order) -> Iterator[Event]:
        """Streams what happens up to the next checkpoint, or to the end."""
        yield from self._slot.go_on(order)

    @ray.method(concurrency_group=ASIDE)
    def pause(self) -> None:
        """Has the job report a checkpoint after its epoch."""
        self._slot.pause()

    def clear(self) -> None:
        """Forgets the job."""
        self._slot.clear()
