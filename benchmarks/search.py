"""Replays samplers on the tables of `benchmarks/tabular`, every candidate of which was trained.

    OMP_NUM_THREADS=1 python benchmarks/search.py digits
    OMP_NUM_THREADS=1 python benchmarks/search.py cifar10

A trial takes its accuracy from the table (of digits, of a seed that is drawn), and a study is
judged by the mean accuracies of what it tried. The first group are this tool's samplers, with its
screening: draws above the ceiling and duplicates cost nothing. The second are Optuna's as its
documentation shows them for two objectives and a constraint, where every draw is a trial. Written
beside this script: `results/search-TABLE.csv` and a picture.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import GPSampler, NSGAIISampler, RandomSampler, TPESampler
from tabular.table import Table

from micronet_search.search import screening, space
from micronet_search.search.pareto import hypervolume
from micronet_search.study.draws import Draws
from micronet_search.study.progress import Progress

RESULTS = Path(__file__).parent / "results"
TRIALS = {"digits": 200, "cifar10": 120}
AFTER = (20, 40, 80, 120)

Tried = Iterator[str]
"""The digest of each candidate that is trained."""


class Run(NamedTuple):
    """What a study had after each trial: feasible hypervolume and lowest feasible score."""

    hypervolumes: list[float]
    scores: list[float]


def with_tool(sampler: str, table: Table, seed: int) -> Tried:
    """A study of this tool."""
    sweep = table.sweep.override(search={"sampler": sampler, "seed": seed})
    study = optuna.create_study(directions=["maximize", "minimize"])
    draws = Draws(sweep, study, table.prospects, Progress(10**6), lambda line: None)
    while (drawn := draws.take(lambda: False)) is not None:
        digest = drawn.candidate.digest()
        tell(study, drawn.trial, table, digest, seed)
        yield digest


def with_optuna(
    sampler: Callable[..., optuna.samplers.BaseSampler], table: Table, seed: int
) -> Tried:
    """A study as Optuna's documentation shows it."""
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler(seed=seed))
    while True:
        trial = study.ask()
        digest = table.prospects.of(space.suggest(trial, table.sweep.space)).digest
        tell(study, trial, table, digest, seed)
        yield digest


def tell(study: optuna.Study, trial: optuna.Trial, table: Table, digest: str, seed: int) -> None:
    accuracy, score = outcome(table, digest, seed)
    for name, violation in screening.violations(accuracy, score, table.sweep.objectives).items():
        trial.set_constraint(name, violation)
    study.tell(trial, [accuracy, score])


def outcome(table: Table, digest: str, seed: int) -> tuple[float, float]:
    """Returns what a trial of a candidate finds: its accuracy and its score."""
    row = table.rows[digest]
    return random.Random(f"{seed}/{digest}").choice(row.accuracies), row.score


Sampler = Callable[[Table, int], Tried]
"""Starts a study on a table, with a seed."""

SAMPLERS: dict[str, Sampler] = {
    "frontier": partial(with_tool, "frontier"),
    "tpe, screened": partial(with_tool, "tpe"),
    "nsga2, screened": partial(with_tool, "nsga2"),
    "random, screened": partial(with_tool, "random"),
    "Optuna TPE": partial(with_optuna, TPESampler),
    "Optuna NSGA-II": partial(with_optuna, NSGAIISampler),
    "Optuna GPSampler": partial(with_optuna, GPSampler),
    "random": partial(with_optuna, RandomSampler),
}


def run(sampler: Sampler, table: Table, trials: int, seed: int) -> Run:
    """Runs one study of so many trials on a table."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    goals, found = table.sweep.objectives, Run([], [])
    reference = goals.accuracy.at_least, goals.score.at_most
    points = np.empty((0, 2))
    for _, digest in zip(range(trials), sampler(table, seed), strict=False):
        row = table.rows[digest]
        points = np.vstack([points, (row.accuracy, row.score)])
        inside = points[(points[:, 0] >= reference[0]) & (points[:, 1] <= reference[1])]
        found.hypervolumes.append(hypervolume(points, reference) / table.best)
        found.scores.append(inside[:, 1].min(initial=np.inf))
    while len(found.scores) < trials:  # the space is exhausted
        found.hypervolumes.append(found.hypervolumes[-1])
        found.scores.append(found.scores[-1])
    return found


def summary(name: str, runs: list[Run]) -> dict[str, str | float]:
    """One row of the table: medians over the seeds, with quartiles."""
    curves = np.array([run.hypervolumes for run in runs])
    scores = np.array([run.scores for run in runs])
    row: dict[str, str | float] = {"sampler": name, "seeds": len(runs)}
    for part in (90, 95):
        reached = curves >= part / 100
        first = np.where(reached.any(axis=1), reached.argmax(axis=1) + 1.0, np.inf)
        low, median, high = np.quantile(first, [0.25, 0.5, 0.75], method="higher")
        row |= {
            f"trials to {part} %": shown(median),
            f"quartiles of {part} %": f"{shown(low)} to {shown(high)}",
        }
        row[f"never {part} %"] = int(np.isinf(first).sum())
    for after in [after for after in AFTER if after <= curves.shape[1]]:
        row[f"hypervolume after {after}"] = round(float(curves[:, after - 1].mean()), 3)
        row[f"best score after {after}"] = f"{np.median(scores[:, after - 1]):.3g}"
    return row


def shown(trials: float) -> str:
    """Returns a number of trials; `more` where that many were not run."""
    return "more" if np.isinf(trials) else f"{trials:g}"


def draw(table: str, curves: dict[str, list[Run]], target: Path) -> None:
    """Draws the mean hypervolume over the trials."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for (name, runs), style in zip(curves.items(), 2 * ["-", "--", "-.", ":"], strict=False):
        mean = np.mean([run.hypervolumes for run in runs], axis=0)
        axes.plot(range(1, len(mean) + 1), mean, style, label=name)
    axes.set(
        xlabel="trials", ylabel="feasible hypervolume, of the best", title=table, ylim=(0, 1.02)
    )
    axes.legend()
    figure.savefig(target, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=list(TRIALS))
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args()
    table, trials = Table.read(given.table), TRIALS[given.table]
    curves: dict[str, list[Run]] = {}
    with Pool(given.processes) as pool:
        for name in given.samplers:
            # which takes a second for a draw
            seeds = -(-given.seeds // 5) if name == "Optuna GPSampler" else given.seeds
            study = partial(run, SAMPLERS[name], table, trials)
            curves[name] = pool.map(study, range(seeds), chunksize=1)
            print(summary(name, curves[name]), flush=True)
    RESULTS.mkdir(exist_ok=True)
    rows = pd.DataFrame([summary(name, runs) for name, runs in curves.items()])
    rows.to_csv(RESULTS / f"search-{given.table}.csv", index=False, lineterminator="\n")
    draw(given.table, curves, RESULTS / f"search-{given.table}.png")


if __name__ == "__main__":
    main()
