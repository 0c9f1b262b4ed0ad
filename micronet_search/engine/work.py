"""One trial as a slot runs it: a conversation of events and orders, the same for every engine."""

from __future__ import annotations

import traceback
from collections.abc import Generator
from dataclasses import dataclass
from typing import Literal

import torch

from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Splits
from micronet_search.store.outcome import Epoch, Result
from micronet_search.trial import Trial


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
    """

    number: int
    candidate: Candidate
    seed: int
    stops: tuple[int, ...]
    checkpoint: bytes | None = None
    teacher: bytes | None = None


@dataclass(frozen=True)
class Trained:
    """An epoch was trained, of so many."""

    row: Epoch
    epochs: int


@dataclass(frozen=True)
class Reached:
    """A rung, the end of a stage, or a pause that was ordered, with the checkpoint."""

    row: Epoch
    checkpoint: bytes


@dataclass(frozen=True)
class Ended:
    """The trial is over."""

    result: Result


@dataclass(frozen=True)
class Stop:
    """The order to end the trial at its rung, and why."""

    reason: str


Event = Trained | Reached | Ended
Order = Literal["go", "pause"] | Stop


def work(job: Job, splits: Splits, device: torch.device) -> Generator[Event, Order, None]:
    """Runs a trial: yields what happens, and is sent what to do next.

    After a "pause" comes the checkpoint, at which whoever asked for it closes the generator. An
    error inside the trial, divergence and exhausted memory among them, ends it as failed.
    """
    trial = Trial(job.candidate, splits, seed=job.seed, device=device, teacher=job.teacher)
    try:
        trial.begin(job.checkpoint)
        stops = {*job.stops, *(stage.end for stage in trial.stages)}
        # a crash may have come between the checkpoint of a rung and the order that followed it
        decided = trial.epoch not in job.stops
        while trial.epoch < trial.epochs:
            order: Order = "go"
            if decided:
                trial.advance(trial.epoch + 1)
                order = yield Trained(trial.curve[-1], trial.epochs)
            if order == "pause" or trial.epoch in stops:
                order = yield Reached(trial.curve[-1], trial.checkpoint())
            decided = True
            if isinstance(order, Stop):
                yield Ended(trial.stopped(order.reason))
                return
        result = trial.finish()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        result = trial.failed(reason)
        result.files["traceback.txt"] = traceback.format_exc().encode()
    yield Ended(result)
