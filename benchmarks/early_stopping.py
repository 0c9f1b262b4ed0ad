"""What early stopping saves, and what it loses, on the tables of `benchmarks/tabular`.

    OMP_NUM_THREADS=1 python benchmarks/early_stopping.py
    OMP_NUM_THREADS=1 python benchmarks/early_stopping.py digits --slots 1 --rungs 5 8 10

Replays random orders of the candidates under the ceiling, each with the accuracies of one of its
seeds: without stopping, and with the rules, judged as the driver judges. Prints a Markdown table:

* to reach: epochs until the feasible complete trials have 95 % of the hypervolume that the same
  order has in the end without stopping, as a multiple of the epochs without stopping; the median
  and the quartiles over the orders, where one that never reaches it counts as infinite;
* never: the share of such orders;
* in all: epochs of all trials, as a share of those without stopping; the mean;
* kept: hypervolume in the end, as a share of that without stopping; the mean;
* kept without: the same without stopping, after as many epochs.
"""

from __future__ import annotations

import argparse
import json
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from multiprocessing import Pool
from typing import NamedTuple

import numpy as np
from tabular.table import Table

from micronet_search.config.search import EarlyStopping
from micronet_search.search import pareto
from micronet_search.search.stopping import Standing, at_share, verdict

REACHED = 0.95
TRIALS = {"digits": 200, "cifar10": 120}
ALONE = [("asha",), ("feasibility",), ("dominated",)]
RULES = [*ALONE, ("asha", "feasibility"), ("asha", "feasibility", "dominated")]
COLUMNS = ("rule", "slots", "to reach", "never", "in all", "kept", "kept without")


class Trial(NamedTuple):
    """A candidate that was trained: its score, its accuracy, and the curve of its first fit."""

    score: float
    accuracy: float
    curve: tuple[float, ...]


@dataclass(frozen=True)
class Setting:
    """What is replayed.

    Attributes:
        least: The accuracy that makes a trial feasible.
        most: The highest score of a feasible trial.
        rest: The epochs of a trial after its first fit.
        orders: The trials of each study, in the order in which they are drawn.
    """

    least: float
    most: float
    rest: int
    orders: list[list[Trial]]

    @classmethod
    def read(cls, name: str, orders: int) -> Setting:
        """Draws orders of the candidates of a table."""
        table = Table.read(name)
        goals = table.sweep.objectives
        rows = [row for row in table.rows.values() if row.score <= goals.score.at_most]
        fit, curve = rows[0].epochs, rows[0].curves[0]
        found = []
        for seed in range(orders):
            generator = np.random.default_rng([0, seed])
            found.append([])
            for i in generator.permutation(len(rows))[: TRIALS[name]]:
                row = rows[i]
                which = int(generator.integers(len(row.curves)))
                known = row.score, row.accuracies[which], tuple(row.curves[which][:fit])
                found[-1].append(Trial(*known))
        return cls(goals.accuracy.at_least, goals.score.at_most, len(curve) - fit, found)

    def hypervolume(self, trials: Sequence[Trial]) -> float:
        return pareto.hypervolume(points(trials), (self.least, self.most))


class Judge:
    """The rules of a sweep, given what the driver gives them."""

    def __init__(self, early: EarlyStopping, least: float) -> None:
        self._early, self._least = early, least
        self._reached: dict[int, list[float]] = {}
        self._complete: list[Trial] = []

    def stops(self, trial: Trial, epoch: int) -> bool:
        """Whether a trial ends after this epoch; asked after each of the first fit but the last."""
        epochs = len(trial.curve)
        if epoch not in self._early.rungs(epochs):
            return False
        reached = self._reached.setdefault(epoch, [])
        finished = [(at_share(t.curve, epoch / epochs), t.accuracy) for t in self._complete]
        standing = Standing(
            epoch,
            accuracy=trial.curve[epoch - 1],
            score=trial.score,
            others=np.array(reached, dtype=float),
            finished=np.array(finished, dtype=float).reshape(-1, 2),
            complete=points(self._complete),
        )
        reached.append(standing.accuracy)
        return verdict(standing, self._early, self._least) is not None

    def complete(self, trial: Trial) -> None:
        """Hears that a trial is complete."""
        self._complete.append(trial)


@dataclass(frozen=True)
class Replay:
    """What came of an order of trials.

    Attributes:
        epochs: Of all trials, the stopped ones too.
        complete: Each complete trial, with the epochs of all trials up to its end.
    """

    epochs: int
    complete: list[tuple[int, Trial]]

    def within(self, epochs: float) -> list[Trial]:
        """The trials that are complete after so many epochs."""
        return [trial for end, trial in self.complete if end <= epochs]

    def epochs_to(self, hypervolume: float, setting: Setting) -> float:
        """The epochs until the complete trials reach a hypervolume; infinite where they do not."""
        ends = [end for end, _ in self.complete]  # the hypervolume only grows
        found = bisect_left(
            ends, hypervolume, key=lambda end: setting.hypervolume(self.within(end))
        )
        return ends[found] if found < len(ends) else math.inf


def replay(trials: Sequence[Trial], judge: Judge, slots: int, rest: int) -> Replay:
    """Runs trials in their order, the slots an epoch each in turn.

    Args:
        trials: In the order in which they are drawn.
        judge: Decides which go on.
        slots: Trials that run at once.
        rest: Epochs that a trial takes after its first fit.
    """
    waiting = iter(trials)
    running = deque((trial, 1) for trial in islice(waiting, slots))
    spent, complete = 0, []
    while running:
        trial, epoch = running.popleft()
        spent += 1
        fit = len(trial.curve)
        if epoch == fit + rest:
            complete.append((spent, trial))
            judge.complete(trial)
        elif epoch >= fit or not judge.stops(trial, epoch):
            running.append((trial, epoch + 1))
            continue
        running.extend((following, 1) for following in islice(waiting, 1))
    return Replay(spent, complete)


def replays(early: EarlyStopping, setting: Setting, slots: int) -> list[Replay]:
    """Replays every order."""
    return [
        replay(trials, Judge(early, setting.least), slots, setting.rest)
        for trials in setting.orders
    ]


def cells(found: Sequence[Replay], plain: Sequence[Replay], setting: Setting) -> list[str]:
    """What a row says of some replays, given those of the same orders without stopping."""
    values = []
    for one, other in zip(found, plain, strict=True):
        final = setting.hypervolume(other.within(math.inf))
        epochs = [each.epochs_to(REACHED * final, setting) for each in (one, other)]
        kept = [setting.hypervolume(each.within(one.epochs)) / final for each in (one, other)]
        values.append((epochs[0] / epochs[1], one.epochs / other.epochs, *kept))
    ratios, *means = np.array(values).T
    # elements of the sample: between a finite and an infinite one there is nothing
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75], method="inverted_cdf")
    return [
        f"{times(median)} ({times(low)} to {times(high)})",
        f"{np.mean(np.isinf(ratios)):.0%}",
        *(f"{np.mean(each):.1%}" for each in means),
    ]


def rows(name: str, options: Sequence[EarlyStopping], orders: int, slots: int) -> Iterator[str]:
    """The rows of a table: without stopping, and with each of the options."""
    setting = Setting.read(name, orders)
    plain = replays(EarlyStopping(), setting, slots)
    reached = [
        one.epochs_to(REACHED * setting.hypervolume(one.within(math.inf)), setting) for one in plain
    ]
    yield (
        f"{name}, slots: {slots}, orders: {orders}, trials of each: {len(setting.orders[0])}; "
        f"without stopping {np.median(reached):.0f} of {plain[0].epochs} epochs in the median.\n"
    )
    yield f"| {' | '.join(COLUMNS)} |\n" + "|---" * len(COLUMNS) + "|"
    with Pool() as pool:
        work = partial(replays, setting=setting, slots=slots)
        for early, found in zip(options, pool.imap(work, options), strict=True):
            rungs = early.rungs(len(setting.orders[0][0].curve))
            line = f"{', '.join(early.rule)} at {rungs}, 1 in {early.reduction}"
            yield f"| {' | '.join([line, str(slots), *cells(found, plain, setting)])} |"


def points(trials: Sequence[Trial]) -> pareto.Points:
    return np.array([(trial.accuracy, trial.score) for trial in trials]).reshape(-1, 2)


def times(ratio: float) -> str:
    return "never" if math.isinf(ratio) else f"{ratio:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", default=list(TRIALS), help="of benchmarks/tabular")
    parser.add_argument("--orders", type=int, default=50)
    parser.add_argument("--slots", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--rungs", nargs="+", type=json.loads, default=["auto"], help="the first")
    parser.add_argument("--reductions", nargs="+", type=int, default=[2])
    given = parser.parse_args()
    options = [
        EarlyStopping(rule=rule, first_rung=rung, reduction=reduction)
        for rule, rung, reduction in product(RULES, given.rungs, given.reductions)
    ]
    for name in given.tables:
        for slots in given.slots:
            for row in rows(name, options, given.orders, slots):
                print(row, flush=True)
            print()


if __name__ == "__main__":
    main()
