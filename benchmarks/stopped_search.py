"""What early stopping saves, and what it loses, where a sampler chooses what is trained.

    OMP_NUM_THREADS=1 python benchmarks/stopped_search.py digits
    OMP_NUM_THREADS=1 python benchmarks/stopped_search.py cifar10 --rules off feasibility

Replays studies of one slot on a table of `benchmarks/tabular`, as `search.py` does, with the rungs
of `early_stopping.py`: the sampler is told of a stopped trial what a study tells it, and only
complete trials count. A study costs epochs. Prints a Markdown table: epochs until 90 and 95 % of
the best feasible hypervolume, medians, and the mean hypervolume after parts of all epochs.
"""

from __future__ import annotations

import argparse
import random
from functools import partial
from multiprocessing import Pool
from typing import NamedTuple

import numpy as np
import optuna
from early_stopping import Judge, Trial
from optuna.trial import TrialState
from tabular.table import Row, Table

from micronet_search.config.search import EarlyStopping
from micronet_search.search import screening
from micronet_search.search.pareto import hypervolume
from micronet_search.search.stopping import RUNGS
from micronet_search.study.draws import Draws
from micronet_search.study.progress import Progress
from micronet_search.study.queue import Drawn

EPOCHS = {"digits": 2400, "cifar10": 600}
PARTS = (0.25, 0.5, 0.75, 1.0)
RULES: dict[str, tuple[str, ...]] = {
    "off": (),
    "asha, feasibility": ("asha", "feasibility"),
    "asha": ("asha",),
    "feasibility": ("feasibility",),
    "dominated": ("feasibility", "dominated"),
}


class Run(NamedTuple):
    """A study: the epochs of all trials up to each trial's end, the hypervolume by then, counts."""

    ends: list[int]
    hypervolumes: list[float]
    stopped: int


def run(table: Table, sampler: str, early: EarlyStopping, epochs: int, seed: int) -> Run:
    """Runs one study for so many epochs."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    goals, judge = table.sweep.objectives, Judge(early, table.sweep.objectives.accuracy.at_least)
    sweep = table.sweep.override(search={"sampler": sampler, "seed": seed})
    study = optuna.create_study(directions=["maximize", "minimize"])
    draws = Draws(sweep, study, table.prospects, Progress(10**6), lambda line: None)
    spent, points, found = 0, np.empty((0, 2)), Run([], [], 0)
    while spent < epochs and (drawn := draws.take(lambda: False)) is not None:
        row = table.rows[drawn.candidate.digest()]
        which = random.Random(f"{seed}/{drawn.candidate.digest()}").randrange(len(row.accuracies))
        trial = Trial(row.score, row.accuracies[which], tuple(row.curves[which][: row.epochs]))
        epoch = stopped_at(trial, judge, early, drawn)
        spent += epoch or len(row.curves[which])
        tell(study, drawn, trial, row, epoch, table)
        if epoch is None:
            judge.complete(trial)
            points = np.vstack([points, (row.accuracy, row.score)])
        found = found._replace(stopped=found.stopped + (epoch is not None))
        area = hypervolume(points, (goals.accuracy.at_least, goals.score.at_most))
        found.ends.append(spent)
        found.hypervolumes.append(area / table.best)
    return found


def stopped_at(trial: Trial, judge: Judge, early: EarlyStopping, drawn: Drawn) -> int | None:
    """Returns the epoch at which a trial is stopped, after Optuna has its accuracy at each rung."""
    reached = {}
    for epoch in early.rungs(len(trial.curve)) if early.rule else ():
        reached[str(epoch)] = trial.curve[epoch - 1], trial.score
        drawn.trial.set_user_attr(RUNGS, reached)
        if judge.stops(trial, epoch):
            return epoch
    return None


def tell(
    study: optuna.Study, drawn: Drawn, trial: Trial, row: Row, epoch: int | None, table: Table
) -> None:
    """Tells Optuna how a trial ended."""
    accuracy = trial.accuracy if epoch is None else trial.curve[epoch - 1]
    violations = screening.violations(accuracy, row.score, table.sweep.objectives)
    for name, violation in violations.items():
        drawn.trial.set_constraint(name, violation)
    if epoch is None:
        study.tell(drawn.trial, [accuracy, row.score])
    else:
        study.tell(drawn.trial, state=TrialState.PRUNED)


def cells(runs: list[Run], epochs: int) -> list[str]:
    """Returns what a row says of the studies with one rule."""
    shown = []
    for part in (0.9, 0.95):
        firsts = [
            next((end for end, area in zip(*each[:2], strict=True) if area >= part), np.inf)
            for each in runs
        ]
        low, median, high = np.quantile(firsts, [0.25, 0.5, 0.75], method="inverted_cdf")
        never = np.isinf(firsts).mean()
        quartiles = ("more" if np.isinf(each) else f"{each:g}" for each in (median, low, high))
        shown.append("{} ({} to {})".format(*quartiles) + f", never {never:.0%}")
    for part in PARTS:
        areas = [
            max((a for end, a in zip(*each[:2], strict=True) if end <= part * epochs), default=0)
            for each in runs
        ]
        shown.append(f"{np.mean(areas):.2f}")
    trials = np.mean([len(each.ends) for each in runs])
    return [*shown, f"{trials:.0f}", f"{np.mean([each.stopped for each in runs]):.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=list(EPOCHS))
    parser.add_argument("--rules", nargs="+", choices=list(RULES), default=list(RULES))
    parser.add_argument("--sampler", default="frontier")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    table, epochs = Table.read(given.table), EPOCHS[given.table]
    after = [f"after {part * epochs:.0f}" for part in PARTS]
    names = ["rule", "epochs to 90 %", "to 95 %", *after, "trials", "stopped"]
    print(f"| {' | '.join(names)} |\n" + "|---" * len(names) + "|")
    with Pool(given.processes) as pool:
        for rule in given.rules:
            early = EarlyStopping(rule=RULES[rule])
            work = partial(run, table, given.sampler, early, epochs)
            runs = pool.map(work, range(given.seeds), chunksize=1)
            print(f"| {' | '.join([rule, *cells(runs, epochs)])} |", flush=True)


if __name__ == "__main__":
    main()
