"""The engine that runs trials in the driver's own process, one at a time."""

from __future__ import annotations

from collections.abc import Iterator

from micronet_search.engine.slot import Slot
from micronet_search.engine.work import Event, Job, Order


class Inline:
    """An engine of one slot, which works while it is waited for."""

    slots = 1

    def __init__(self, slot: Slot) -> None:
        """Takes over a slot."""
        self._slot = slot
        self._number: int | None = None
        self._leg: Iterator[Event] = iter(())

    def start(self, job: Job) -> None:
        """Gives a job to the slot."""
        assert self._number is None
        self._number, self._leg = job.number, self._slot.begin(job)

    def wait(self) -> tuple[int, Event] | None:
        """Runs until something happens, and says what, in which trial."""
        assert self._number is not None
        return self._number, next(self._leg)

    def order(self, number: int, order: Order) -> None:
        """Answers the checkpoint of the trial."""
        assert self._number == number
        self._leg = self._slot.go_on(order)

    def pause(self) -> None:
        """Has the trial report a checkpoint after its epoch."""
        self._slot.pause()

    def release(self, number: int) -> None:
        """Frees the slot."""
        assert self._number == number
        self._number = None
        self._slot.clear()

    def close(self) -> None:
        """Has nothing to give back."""
