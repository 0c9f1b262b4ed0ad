"""A slot, where one trial runs, and the engine that has just one, in the driver's process."""

import threading
from collections.abc import Generator, Iterator

import torch

from micronet_search.data.splits import Splits
from micronet_search.engine.work import Event, Job, Order, Trained, work


class Slot:
    """Runs one job after another. It alone sets threads, device, seed and dataset.

    `begin` yields a job's events up to its first checkpoint or its end, and `go_on` those up to the
    next one.
    """

    def __init__(self, splits: Splits, device: torch.device, threads: int | None) -> None:
        """Moves the dataset to the device. None leaves PyTorch's number of threads as it is."""
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


class Inline:
    """An engine with one slot, in the driver's own process: it works while the driver waits."""

    slots = 1

    def __init__(self, slot: Slot) -> None:
        self._slot = slot
        self._number: int | None = None
        self._events: Iterator[Event] = iter(())

    def start(self, job: Job) -> None:
        """Gives a job to the slot."""
        self._number, self._events = job.number, self._slot.begin(job)

    def wait(self) -> tuple[int, Event] | None:
        """Runs the job until its next event."""
        assert self._number is not None
        return self._number, next(self._events)

    def order(self, number: int, order: Order) -> None:
        """Answers the checkpoint of the job."""
        assert self._number == number
        self._events = self._slot.go_on(order)

    def pause(self) -> None:
        """Asks the job for a checkpoint after its epoch."""
        self._slot.pause()

    def release(self, number: int) -> None:
        """Frees the slot."""
        assert self._number == number
        self._number = None
        self._slot.clear()

    def close(self) -> None:
        """Does nothing: there are no other processes to end."""
