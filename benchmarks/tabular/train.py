"""Trains every candidate of a small space through the tool, and keeps what came of it as CSV.

    OMP_NUM_THREADS=1 python benchmarks/tabular/train.py benchmarks/tabular/digits.yaml --root RUNS

The command can be stopped and given again. Beside the sweep it writes a row for each candidate and
seed: the choices as Optuna names them (nothing for a choice on a branch that was not taken), the
accuracy of what is shipped, the score predicted by the sweep's rule, the measured scores by both
rules, the seconds of the trial, and the validation accuracy after each epoch.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BruteForceSampler

from micronet_search import build
from micronet_search.config.distributions import leaves
from micronet_search.config.files import dump_yaml, load_candidate, load_sweep
from micronet_search.config.options import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.data import splits
from micronet_search.scoring.rules import scores
from micronet_search.search.space import find_choices, suggest
from micronet_search.store.outcome import read_outcomes
from micronet_search.store.paths import Root
from micronet_search.study import opening


def write_candidates(sweep: Sweep, folder: Path) -> list[str]:
    """Writes a file for each different candidate of the space, and returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    images, classes = splits.describe(sweep.dataset)
    different = {}

    def add(trial: optuna.Trial) -> float:
        candidate = read_candidate(suggest(trial, sweep.space), images, classes)
        different[candidate.digest()] = candidate
        return 0.0

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(sampler=BruteForceSampler(seed=0)).optimize(add)
    paths = []
    for number, candidate in enumerate(different.values()):
        path = folder / f"{number:04d}.yaml"
        path.write_text(dump_yaml(candidate.model_dump(mode="json")))
        paths.append(str(path.absolute()))
    return paths


def train(sweep: Sweep, root: Root, files: list[str], seed: int) -> Sweep:
    """Runs a study that tries the candidates of some files one after the other."""
    search = {"start_with": files, "trials": len(files), "seed": seed}
    score = sweep.objectives.score.model_copy(update={"at_most": 1.0})  # none is screened
    named = sweep.model_copy(update={"name": f"{sweep.name}-{seed}"})
    named = named.override(search=search, objectives={"score": score})
    opening.run(named, root, lambda progress, line: print(line, flush=True) if line else None)
    return named


def rows(sweep: Sweep, root: Root) -> Iterator[dict[str, Any]]:
    """Yields a row for each complete trial of a study."""
    folder, rule = root.study(sweep.name), sweep.objectives.score.rule
    space, paths = sweep.space, list(leaves(sweep.space))
    for number, outcome in read_outcomes(folder, rule).items():
        if outcome.state != "complete":
            raise ValueError(f"{sweep.name}: trial {number} is {outcome.state}, expected complete")
        candidate = load_candidate(folder.trial(number).candidate)
        choices = find_choices(space, candidate.model_dump(mode="json"))
        measured = {name: f"{parts['score']:.7f}" for name, parts in outcome.scores.items()}
        curve = {f"epoch{row.epoch}": f"{row.accuracy:.4f}" for row in outcome.curve}
        yield {
            **{path: choices.get(path, "") for path in paths},
            "seed": sweep.search.seed,
            "accuracy": f"{outcome.accuracy:.4f}",
            "predicted": f"{scores(build.predict(candidate))[rule].score:.7f}",
            **measured,
            "seconds": f"{sum(outcome.seconds.values()):.2f}",
            **curve,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--root", type=Path, required=True, help="the folder of the studies")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--parquet", help="a folder of parquet files, in the place of the sweep's dataset"
    )
    given = parser.parse_args()
    sweep = load_sweep(given.sweep)
    if given.parquet:
        sweep = sweep.override(dataset={"name": "parquet", "root": given.parquet})
    root = Root(given.root)
    files = write_candidates(sweep, given.root / "candidates" / sweep.name)
    studies = [train(sweep, root, files, seed) for seed in range(given.seeds)]
    table = [row for study in studies for row in rows(study, root)]
    with given.sweep.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, table[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
