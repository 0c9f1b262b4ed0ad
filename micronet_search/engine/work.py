"""One trial as a slot runs it: a conversation of events and orders, the same for every engine."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Literal, Protocol

import torch

from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Splits
from micronet_search.store.checkpoint import DamagedCheckpointError
from micronet_search.store.outcome import TRACEBACK, Epoch, Result
from micronet_search.training.fit import DivergenceError
from micronet_search.trial.trial import Trial


@dataclass(frozen=True)
class Job:
    """What a slot is asked to do.

    Attributes:
        number: Of the trial; a teacher's is negative.
        candidate: What is evaluated.
        seed: Of the trial.
        stops: Epochs at which it reports a checkpoint and waits for an order: rungs.
        checkpoint: Where it goes on; None to begin.
        teacher: The model file of its teacher, where it has one.
        checkpoint_minutes: The most training that may lie between two checkpoints, in minutes;
            an epoch that takes longer is followed by one.
    """

    number: int
    candidate: Candidate
    seed: int
    stops: tuple[int, ...]
    checkpoint: bytes | None = None
    teacher: bytes | None = None
    checkpoint_minutes: float = math.inf


@dataclass(frozen=True)
class Trained:
    """An epoch was trained, of so many. No order is waited for."""

    row: Epoch
    epochs: int


@dataclass(frozen=True)
class Reached:
    """A checkpoint: at a rung, at the end of a stage, at a pause, or because its time had come.

    An order is waited for.
    """

    row: Epoch
    checkpoint: bytes


@dataclass(frozen=True)
class Ended:
    """The trial is over."""

    result: Result


@dataclass(frozen=True)
class Crashed:
    """The trial has failed in a way in which another try may not.

    Attributes:
        result: Of a failed trial.
        damaged: Whether its checkpoint is to blame, so that the next try begins without it.
    """

    result: Result
    damaged: bool = False


@dataclass(frozen=True)
class Left:
    """The node of the trial's slot has left. The trial is not to blame."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """The order to end the trial at its rung, and why."""

    reason: str


Event = Trained | Reached | Ended | Crashed | Left
Order = Literal["go"] | Stop


class Engine(Protocol):
    """Slots: `start` a job in a free one, `wait` for events, and `order` what follows a `Reached`.

    After `Ended`, `Crashed` or `Left`, or in the place of an order, `release` frees the slot.
    """

    @property
    def slots(self) -> int:
        """How many there are by now."""

    def start(self, job: Job) -> None:
        """Gives a job to a free slot."""

    def wait(self) -> tuple[int, Event] | None:
        """What happens next, in which trial; None where nothing did for a moment."""

    def order(self, number: int, order: Order) -> None:
        """Answers the checkpoint of a trial."""

    def pause(self) -> None:
        """Has every trial report a checkpoint after the epoch that it is in."""

    def release(self, number: int) -> None:
        """Frees the slot of a trial that is over, or is left paused at its checkpoint."""

    def close(self) -> None:
        """Gives everything back."""


def work(
    job: Job, splits: Splits, device: torch.device, pausing: Callable[[], bool]
) -> Generator[Event, Order | None, None]:
    """Runs a trial: yields what happens, and is sent an order after each checkpoint.

    An error inside the trial, divergence and exhausted memory among them, ends it as failed.

    Args:
        job: What to run.
        splits: The dataset, on the device.
        device: Where it runs.
        pausing: Asked after every epoch, whether a checkpoint is wanted now.
    """
    trial = Trial(job.candidate, splits, seed=job.seed, device=device, teacher=job.teacher)
    try:
        trial.begin(job.checkpoint)
        stops = {*job.stops, *(stage.end for stage in trial.stages)}
        # a crash may have come between the checkpoint of a rung and the order that followed it
        decided = trial.epoch not in job.stops
        saved = time.monotonic()
        while trial.epoch < trial.epochs:
            if decided:
                trial.advance(trial.epoch + 1)
                yield Trained(trial.history.curve[-1], trial.epochs)
            decided = True
            # one more epoch like the last may not go beyond what a crash is allowed to cost
            unsaved = time.monotonic() - saved + trial.history.curve[-1].seconds
            is_due = unsaved > job.checkpoint_minutes * 60
            if trial.epoch in stops or is_due or pausing():
                order = yield Reached(trial.history.curve[-1], trial.checkpoint())
                saved = time.monotonic()
                if isinstance(order, Stop):
                    yield Ended(trial.stopped(order.reason))
                    return
        result = trial.finish()
    except Exception as error:
        result = trial.failed(f"{type(error).__name__}: {error}".splitlines()[0])
        result.files[TRACEBACK] = traceback.format_exc().encode()
        if not isinstance(error, DivergenceError):  # it would diverge again
            damaged = isinstance(error, DamagedCheckpointError) and job.checkpoint is not None
            yield Crashed(result, damaged)
            return
    yield Ended(result)
