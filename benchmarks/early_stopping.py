"""What early stopping saves, and what it loses, on recorded learning curves.

    pip install -c constraints.txt -e '.[benchmarks]'
    OMP_NUM_THREADS=1 python benchmarks/early_stopping.py benchmarks/curves.yaml

Replays the trials of a study, recorded beside its sweep, in many random orders: without stopping,
with the rules of a sweep, judged as the driver judges, and with Syne Tune's MOASHA at the same
rungs. Prints a Markdown table for each goal:

* to reach: epochs until the hypervolume of the feasible complete trials is 95 % of what all
  recorded trials have, as a multiple of those without stopping in the same order; the median and
  the quartiles over the orders, where one that never reaches it counts as infinite;
* never: the share of such orders;
* in all: epochs of all trials, as a share of those without stopping; the mean;
* kept: hypervolume in the end, as a share of what all recorded trials have; the mean;
* kept without: the same without stopping, after as many epochs;
* front lost: the share of the front's trials that are stopped; the mean.
"""

from __future__ import annotations

import argparse
import csv
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from micronet_search.config.files import load_sweep
from micronet_search.config.search import EarlyStopping
from micronet_search.config.sweep import Sweep
from micronet_search.search import pareto
from micronet_search.search.stopping import Standing, at_share, verdict

REACHED = 0.95
COLUMNS = ("to reach", "never", "in all", "kept", "kept without", "front lost")


@dataclass(frozen=True)
class Recorded:
    """A trial as it was recorded.

    Attributes:
        number: Of the trial in its study.
        predicted: Score, known before training.
        score: Of what is shipped.
        accuracy: Of what is shipped.
        curve: Accuracy after each epoch of the first fit.
    """

    number: int
    predicted: float
    score: float
    accuracy: float
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Goal:
    """What is searched for: `at_least` this accuracy, `at_most` this score."""

    at_least: float
    at_most: float

    def hypervolume(self, trials: Sequence[Recorded]) -> float:
        return pareto.hypervolume(_points(trials), (self.at_least, self.at_most))

    def feasible(self, trials: Sequence[Recorded]) -> list[Recorded]:
        return [t for t in trials if t.accuracy >= self.at_least and t.score <= self.at_most]

    def front(self, trials: Sequence[Recorded]) -> list[Recorded]:
        feasible = self.feasible(trials)
        return [feasible[i] for i in pareto.front(_points(feasible))]


class Judge(Protocol):
    """Decides which trials go on."""

    def stops(self, trial: Recorded, epoch: int) -> bool:
        """Whether a trial ends after this epoch; asked after each of the first fit but the last."""
        ...

    def complete(self, trial: Recorded) -> None:
        """Hears that a trial is complete."""
        ...


class Rules:
    """The rules of a sweep, given what the driver gives them."""

    def __init__(self, early: EarlyStopping, at_least: float) -> None:
        self._early, self._at_least = early, at_least
        self._reached: dict[int, list[tuple[float, float]]] = {}
        self._complete: list[Recorded] = []

    def stops(self, trial: Recorded, epoch: int) -> bool:
        epochs = len(trial.curve)
        if epoch not in self._early.rungs(epochs):
            return False
        reached = self._reached.setdefault(epoch, [])
        others = np.array(reached).reshape(-1, 2)
        finished = [(at_share(t.curve, epoch / epochs), t.accuracy) for t in self._complete]
        accuracy, score = trial.curve[epoch - 1], trial.predicted
        known = np.array(finished, dtype=float).reshape(-1, 2)
        complete = np.array([(t.accuracy, t.score) for t in self._complete]).reshape(-1, 2)
        standing = Standing(epoch, accuracy, score, others, known, complete)
        reached.append((accuracy, score))
        return verdict(standing, self._early, self._at_least) is not None

    def complete(self, trial: Recorded) -> None:
        self._complete.append(trial)


class SyneTune:
    """Syne Tune's MOASHA, given the same at the same rungs.

    It has one direction for all metrics, so that the error stands for the accuracy.
    """

    def __init__(self, early: EarlyStopping, epochs: int, priority: Any = None) -> None:
        from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

        self._scheduler = MOASHA(
            config_space={},
            metrics=["error", "score"],
            time_attr="epoch",
            multiobjective_priority=priority,
            max_t=epochs,
            grace_period=early.rungs(epochs)[0],
            reduction_factor=early.reduction,
        )

    def stops(self, trial: Recorded, epoch: int) -> bool:
        handle = self._handle(trial)
        if epoch == 1:
            self._scheduler.on_trial_add(handle)
        return bool(self._scheduler.on_trial_result(handle, self._result(trial, epoch)) == "STOP")

    def complete(self, trial: Recorded) -> None:
        result = self._result(trial, len(trial.curve))
        self._scheduler.on_trial_complete(self._handle(trial), result)

    def _handle(self, trial: Recorded) -> Any:
        from syne_tune.backend.trial_status import Trial

        return Trial(trial.number, {}, datetime.min)

    def _result(self, trial: Recorded, epoch: int) -> dict[str, float]:
        return {"epoch": epoch, "error": 1 - trial.curve[epoch - 1], "score": trial.predicted}


def by_position(objectives: Any) -> Any:
    """Syne Tune's non-dominated priority as positions in its order.

    It returns the order itself, numbers of trials from the best to the worst, of which
    `Bracket.on_result` takes entry i for the priority of trial i.
    """
    from syne_tune.optimizer.schedulers.multiobjective.multiobjective_priority import (
        NonDominatedPriority,
    )

    return np.argsort(NonDominatedPriority()(objectives))


@dataclass(frozen=True)
class Replay:
    """What came of an order of trials.

    Attributes:
        epochs: Of all trials, the stopped ones too.
        complete: Each complete trial, with the epochs of all trials up to its end.
    """

    epochs: int
    complete: list[tuple[int, Recorded]]

    def within(self, epochs: int) -> list[Recorded]:
        """The trials that are complete after so many epochs."""
        return [trial for end, trial in self.complete if end <= epochs]

    def epochs_to(self, hypervolume: float, goal: Goal) -> float:
        """The epochs until the complete trials reach a hypervolume; infinite where they do not."""
        trials = [trial for _, trial in self.complete]
        for count, (epochs, _) in enumerate(self.complete, start=1):
            if goal.hypervolume(trials[:count]) >= hypervolume:
                return epochs
        return math.inf


def replay(trials: Sequence[Recorded], judge: Judge, slots: int, compression: int) -> Replay:
    """Runs trials in their order, the slots an epoch each in turn.

    Args:
        trials: In the order in which they are drawn.
        judge: Decides which go on.
        slots: Trials that run at once.
        compression: Epochs that a trial takes after its first fit.
    """
    waiting = iter(trials)
    running = deque((trial, 1) for trial in islice(waiting, slots))
    spent, complete = 0, []
    while running:
        trial, epoch = running.popleft()
        spent += 1
        fit = len(trial.curve)
        if epoch == fit + compression:
            complete.append((spent, trial))
            judge.complete(trial)
        elif epoch >= fit or not judge.stops(trial, epoch):
            running.append((trial, epoch + 1))
            continue
        running.extend((following, 1) for following in islice(waiting, 1))
    return Replay(spent, complete)


def read(path: Path) -> list[Recorded]:
    """The recorded trials."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Recorded(
            number=int(row["number"]),
            predicted=float(row["predicted"]),
            score=float(row["score"]),
            accuracy=float(row["accuracy"]),
            curve=tuple(float(row[name]) for name in row if name.startswith("epoch")),
        )
        for row in rows
    ]


def compression(sweep: Sweep) -> int:
    """The epochs of a trial after its first fit."""
    return sum(int(sweep.candidate[stage]["epochs"]) for stage in ("pruning", "quantization"))


def judges(early: EarlyStopping, epochs: int, at_least: float) -> dict[str, Callable[[], Judge]]:
    """What makes the judge of an order, by its name in the table; without stopping first."""

    def rules(*names: str) -> Callable[[], Judge]:
        return lambda: Rules(early.model_copy(update={"rule": names}), at_least)

    return {
        "no stopping": rules(),
        "`moasha`": rules("moasha"),
        "`feasibility`": rules("feasibility"),
        "`[moasha, feasibility]`": rules("moasha", "feasibility"),
        "Syne Tune's MOASHA": lambda: SyneTune(early, epochs),
        "the same, its order as positions": lambda: SyneTune(early, epochs, by_position),
    }


def cells(
    replays: Sequence[Replay], plain: Sequence[Replay], trials: Sequence[Recorded], goal: Goal
) -> list[str]:
    """What a row says of some orders of the trials, given their replays without stopping too."""
    front = {trial.number for trial in goal.front(trials)}
    most = goal.hypervolume(trials)
    ratios, epochs, kept, without, lost = [], [], [], [], []
    for found, other in zip(replays, plain, strict=True):
        ends = found.within(found.epochs)
        ratios.append(found.epochs_to(REACHED * most, goal) / other.epochs_to(REACHED * most, goal))
        epochs.append(found.epochs / other.epochs)
        kept.append(goal.hypervolume(ends) / most)
        without.append(goal.hypervolume(other.within(found.epochs)) / most)
        lost.append(1 - len(front & {trial.number for trial in ends}) / len(front))
    # elements of the sample: between a finite and an infinite one there is nothing
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75], method="inverted_cdf")
    return [
        f"{_times(median)} ({_times(low)} to {_times(high)})",
        f"{np.mean(np.isinf(ratios)):.0%}",
        *(f"{np.mean(values):.0%}" for values in (epochs, kept, without, lost)),
    ]


def table(
    trials: Sequence[Recorded], goal: Goal, compression: int, given: argparse.Namespace
) -> str:
    """The rows of a goal, for one slot and for several."""
    generator = np.random.default_rng(given.seed)
    orders = [generator.permutation(len(trials)) for _ in range(given.orders)]
    epochs = len(trials[0].curve)
    lines = [f"| rule | slots | {' | '.join(COLUMNS)} |", "|---" * (2 + len(COLUMNS)) + "|"]
    for slots in given.slots:
        plain: list[Replay] = []
        for name, judge in judges(given.early, epochs, goal.at_least).items():
            replays = [
                replay([trials[i] for i in order], judge(), slots, compression) for order in orders
            ]
            plain = plain or replays
            found = cells(replays, plain, trials, goal)
            lines.append(f"| {name} | {slots} | {' | '.join(found)} |")
    reached = [found.epochs_to(REACHED * goal.hypervolume(trials), goal) for found in plain]
    return "\n".join(
        [
            f"Accuracy >= {goal.at_least:g}, score <= {goal.at_most:g}: of {len(trials)} trials "
            f"{len(goal.feasible(trials))} feasible, {len(goal.front(trials))} on the front; "
            f"without stopping {np.median(reached):.0f} of {plain[0].epochs} epochs in the median.",
            "",
            *lines,
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path, help="of the study, which lies beside it as CSV")
    parser.add_argument(
        "--feasible",
        type=float,
        nargs="+",
        default=[0.33, 0.15],
        help="goals: the share of the recorded trials that is accurate enough",
    )
    parser.add_argument("--orders", type=int, default=100)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--early",
        type=EarlyStopping.model_validate_json,
        default=EarlyStopping(first_rung=3),
        help="options of early_stopping, as JSON",
    )
    given = parser.parse_args()
    sweep, trials = load_sweep(given.sweep), read(given.sweep.with_suffix(".csv"))
    for share in given.feasible:
        at_least = np.quantile([trial.accuracy for trial in trials], 1 - share)
        goal = Goal(round(float(at_least), 2), sweep.objectives.score.at_most)
        print(table(trials, goal, compression(sweep), given))


def _times(ratio: float) -> str:
    return "never" if math.isinf(ratio) else f"{ratio:.2f}"


def _points(trials: Sequence[Recorded]) -> pareto.Points:
    return np.array([(trial.accuracy, trial.score) for trial in trials]).reshape(-1, 2)


if __name__ == "__main__":
    main()
