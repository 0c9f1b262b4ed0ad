"""The engine that runs trials one at a time in the driver's own process."""

from __future__ import annotations

from collections.abc import Iterator

from micronet_search.engine.slot import Slot
from micronet_search.engine.work import Event, Job, Order


class Inline:
    """An engine with one slot, which works while the driver waits for it."""

    slots = 1

    def __init__(self, slot: Slot) -> None:
        """Takes over a slot."""
        self._slot = slot
        self._number: int | None = None
        self._events: Iterator[Event] = iter(())

    def start(self, job: Job) -> None:
        """Gives a job to the slot."""
        assert self._number is None
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
