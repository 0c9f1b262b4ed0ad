"""One trial as a slot runs it: a conversation of events and orders, the same for every engine."""

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
from micronet_search.trial.views import Viewing


@dataclass(frozen=True)
class Job:
    """A trial, or a teacher under a negative number, that a slot is asked to train.

    After the epochs in `stops`, the rungs, it reports a checkpoint and waits for an order. Without
    a checkpoint it begins anew, with the fitted network of another trial where `start` has one.
    `teacher` is what a trial needs of its teacher: the model file, or the outputs that are cached.
    Training lasts `checkpoint_minutes` at most without a checkpoint, or one epoch that takes
    longer.

    A job that `makes_views` trains nothing: the `teacher`, a model file, computes the outputs that
    the candidate and other students of it look up. Each view counts as an epoch.

    With `full_train` the validation images are trained on too; accuracies on them say little then.
    """

    number: int
    candidate: Candidate
    seed: int
    stops: tuple[int, ...]
    checkpoint: bytes | None = None
    teacher: bytes | None = None
    start: bytes | None = None
    checkpoint_minutes: float = math.inf
    makes_views: bool = False
    full_train: bool = False

    @property
    def product(self) -> str:
        """What students of a teacher wait for, in words."""
        return "soft targets to be made" if self.makes_views else "teacher to be trained"


@dataclass(frozen=True)
class Trained:
    """Reports one finished epoch and the total number of epochs; the trial continues."""

    row: Epoch
    epochs: int


@dataclass(frozen=True)
class Reached:
    """Reports a checkpoint after an epoch; the trial waits for an order.

    Checkpoints come at rungs, at ends of stages, at a pause, and every `checkpoint_minutes`.
    """

    row: Epoch
    checkpoint: bytes


@dataclass(frozen=True)
class Ended:
    """Reports that the trial has ended."""

    result: Result


@dataclass(frozen=True)
class Crashed:
    """Reports a failure that may not happen again, so the trial can be tried again.

    Another try must begin without the checkpoint if that is `damaged`.
    """

    result: Result
    damaged: bool = False


@dataclass(frozen=True)
class Left:
    """Reports that the trial's node has left the cluster, which is not the trial's fault."""

    reason: str


@dataclass(frozen=True)
class Stop:
    """Orders the trial to end at its rung."""

    reason: str


Event = Trained | Reached | Ended | Crashed | Left
Order = Literal["go"] | Stop


class Engine(Protocol):
    """The slots of a study.

    The driver calls `start` to give a job to a free slot, `wait` for the events of all jobs, and
    `order` to answer `Reached`. `release` frees a slot after `Ended`, `Crashed` or `Left`, or
    instead of an order.
    """

    @property
    def slots(self) -> int:
        """The number of slots that are ready."""

    def start(self, job: Job) -> None:
        """Gives a job to a free slot."""

    def wait(self) -> tuple[int, Event] | None:
        """Returns the next event with its job's number; None if nothing happens for a moment."""

    def order(self, number: int, order: Order) -> None:
        """Answers the checkpoint of a job."""

    def pause(self) -> None:
        """Asks every job for a checkpoint after its current epoch."""

    def release(self, number: int) -> None:
        """Frees the slot of a job that is over, or that is paused at its checkpoint."""

    def close(self) -> None:
        """Ends every process that the engine has started."""


def work(
    job: Job, splits: Splits, device: torch.device, pausing: Callable[[], bool]
) -> Generator[Event, Order | None, None]:
    """Runs a trial on a device, which holds the dataset.

    It yields events, and must be sent an order after each `Reached`. After every epoch `pausing`
    says whether a checkpoint is wanted now. A trial that diverges has failed. After any other
    error, exhausted memory for example, it has crashed, and the driver may try it again.
    """
    trial: Trial | Viewing
    if job.makes_views:
        assert job.teacher is not None
        trial = Viewing(job.teacher, splits, device)
    else:
        trial = Trial(
            job.candidate,
            splits.full() if job.full_train else splits,
            seed=job.seed,
            device=device,
            teacher=job.teacher,
            start=job.start,
        )
    try:
        trial.begin(job.checkpoint)
        stop = yield from _train(trial, job, pausing)
        result = trial.finish() if stop is None else trial.stopped(stop.reason)
    except Exception as error:
        result = trial.failed(f"{type(error).__name__}: {error}".splitlines()[0])
        result.files[TRACEBACK] = traceback.format_exc().encode()
        if not isinstance(error, DivergenceError):  # it would diverge again
            damaged = isinstance(error, DamagedCheckpointError) and job.checkpoint is not None
            yield Crashed(result, damaged)
            return
    yield Ended(result)


def _train(
    trial: Trial | Viewing, job: Job, pausing: Callable[[], bool]
) -> Generator[Event, Order | None, Stop | None]:
    """Trains a trial to its last epoch, or returns the order that stops it before."""
    checkpoints = {*job.stops, *(stage.end for stage in trial.stages)}
    # A crash may have come between the checkpoint of a rung and the order that followed it.
    must_ask = trial.epoch in job.stops
    saved = time.monotonic()
    while trial.epoch < trial.epochs:
        if not must_ask:
            trial.advance(trial.epoch + 1)
            yield Trained(trial.history.curve[-1], trial.epochs)
        must_ask = False
        # Another epoch like the last one must not exceed what a crash is allowed to cost.
        unsaved = time.monotonic() - saved + trial.history.curve[-1].seconds
        is_due = unsaved > job.checkpoint_minutes * 60
        if trial.epoch in checkpoints or is_due or pausing():
            order = yield Reached(trial.history.curve[-1], trial.checkpoint())
            saved = time.monotonic()
            if isinstance(order, Stop):
                return order
    return None
