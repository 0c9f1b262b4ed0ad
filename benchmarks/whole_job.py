"""The whole job, by this tool and by others: the same space, the same seconds, on the same machine.

    python benchmarks/whole_job.py digits --root RUNS [--syne-python PYTHON]
    python benchmarks/whole_job.py cifar10 --root RUNS --parquet FOLDER [--syne-python PYTHON]

Each system searches the space of a table of `benchmarks/tabular` as a process of its own, which
gets a Ctrl-C when its seconds are over: its start is among them, and a trial counts where it has
ended by then. One system runs after the other, all of them with one seed, then with the next.
`tool` is `micronet-search run` as the sweeps that ship have it, with two slots; `tool-4` compresses
each network four times. The others are those of `whole_job_peers.py`; Syne Tune is left out without
`--syne-python`, the interpreter of an environment that has it beside this package. The two-slot
systems have one thread a trial, the script with Optuna has PyTorch's default.

All are judged by their complete trials alike: the accuracy of what is stored on the same validation
images, and its measured score. The best accuracies of a search are lucky ones, so those that are
feasible are judged a second time, by the accuracies of other trainings in the table. Each run adds
a row to `results/whole-job.csv` when it ends, and one that has its row is not run again, so that
the command can be stopped and given again. At the end it prints a table: means over the seeds, but
the median of the best feasible score.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tabular.table import Row, Table

from micronet_search.config.files import dump_yaml, load_candidate, load_sweep
from micronet_search.config.sweep import Objectives, Sweep
from micronet_search.search.pareto import hypervolume
from micronet_search.store.outcome import read_outcomes
from micronet_search.store.paths import Root

HERE = Path(__file__).parent.absolute()
RESULTS = HERE / "results" / "whole-job.csv"
SECONDS = {"digits": 90, "cifar10": 240}
SYSTEMS = ("tool", "tool-4", "optuna-tpe", "optuna-nsga2", "ray", "syne-tune")
TO_STOP = 60
"""Seconds that a system has to stop before it is killed."""


class Trial(NamedTuple):
    """A complete trial: when it ended, its figures, and the digest of its candidate."""

    ended: float
    accuracy: float
    score: float
    digest: str


def sweep_of(table: str, parquet: str | None, seed: int, system: str) -> Sweep:
    """Returns the sweep of a table, as the tool runs it."""
    sweep = load_sweep(HERE / "tabular" / f"{table}.yaml")
    if parquet:
        sweep = sweep.override(dataset={"name": "parquet", "root": str(Path(parquet).absolute())})
    search = {
        "trials": 1_000_000,
        "seed": seed,
        "sampler": "frontier",
        "compressions_per_network": 4 if system == "tool-4" else 1,
    }
    return sweep.override(search=search)


def command(system: str, folder: Path, seed: int, syne_python: str) -> list[str]:
    """Returns what is typed for a system."""
    sweep = str(folder / "sweep.yaml")
    if system.startswith("tool"):
        tool = [sys.executable, "-m", "micronet_search"]
        return [*tool, "run", sweep, "--root", str(folder)]
    python = syne_python if system == "syne-tune" else sys.executable
    given = ["--system", system, "--sweep", sweep, "--folder", str(folder), "--seed", str(seed)]
    return [python, str(HERE / "whole_job_peers.py"), *given]


def environment(system: str, folder: Path) -> Mapping[str, str]:
    """Returns the environment of a system."""
    threads = {} if system.startswith("optuna") else {"OMP_NUM_THREADS": "1"}
    own = {"RAY_worker_niceness": "0", "SYNETUNE_FOLDER": str(folder / "syne-tune")}
    rest = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    return rest | own | threads


def run(typed: list[str], folder: Path, variables: Mapping[str, str], seconds: float) -> float:
    """Runs a system until its seconds are over, and returns when they were."""
    with (folder / "log.txt").open("wb") as log:
        over = time.time() + seconds
        process = subprocess.Popen(
            typed,
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
            if code:
                raise RuntimeError(f"it failed with {code}: see {folder / 'log.txt'}")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(TO_STOP)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return over


def trials(system: str, folder: Path, sweep: Sweep) -> list[Trial]:
    """Returns the complete trials of a system."""
    if system.startswith("tool"):
        rule, study = sweep.objectives.score.rule, Root(folder).study(sweep.name)
        return [
            Trial(
                each.ended,
                each.accuracy,
                each.scores[rule]["score"],
                load_candidate(study.trial(number).candidate).digest(),
            )
            for number, each in read_outcomes(study, rule).items()
            if each.state == "complete"
        ]
    file = folder / "trials.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return [Trial(**json.loads(line)) for line in lines]


def judged(
    found: list[Trial], over: float, goals: Objectives, table: Mapping[str, Row]
) -> dict[str, Any]:
    """Returns the figures of the trials that ended in time."""
    reference = goals.accuracy.at_least, goals.score.at_most

    def area(points: list[tuple[float, float]]) -> float:
        return float(f"{hypervolume(np.array(points).reshape(-1, 2), reference):.6g}")

    ended = [each for each in found if each.ended <= over]
    feasible = [e for e in ended if e.accuracy >= reference[0] and e.score <= reference[1]]
    known = [table[each.digest] for each in feasible]
    return {
        "trials": len(ended),
        "feasible": len(feasible),
        "different": len({each.digest for each in feasible}),
        "hypervolume": area([(each.accuracy, each.score) for each in feasible]),
        "by the table": area([(row.accuracy, row.score) for row in known]),
        "best score": min((each.score for each in feasible), default=float("inf")),
    }


def summary(rows: pd.DataFrame) -> str:
    """Returns a Markdown table of all runs of a table with the same seconds."""
    lines = [
        "| system | complete trials | feasible | different | best score "
        "| hypervolume, millionths: each seed | `tool` is ahead | by the table | `tool` is ahead |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for system in (name for name in SYSTEMS if name in set(rows["system"])):
        own = rows[rows["system"] == system]
        cells = [f"{own[name].mean():.1f}" for name in ("trials", "feasible", "different")]
        cells.append(f"{own['best score'].median():.3g}")
        for kind in ("hypervolume", "by the table"):
            areas = rows.pivot(index="system", columns="seed", values=kind)
            area = areas.loc[system].dropna() * 1e6
            each = ", ".join(f"{value:.2g}" for value in area)
            cells += [f"{area.mean():.2g}: {each}", won(areas, system)]
        lines.append(f"| {' | '.join([system, *cells])} |")
    return "\n".join(lines)


def won(areas: pd.DataFrame, system: str) -> str:
    """Returns in how many of the seeds that both have run the tool has more hypervolume."""
    if system.startswith("tool") or "tool" not in areas.index:
        return ""
    pairs = areas.loc[["tool", system]].dropna(axis=1)
    return f"{int((pairs.loc['tool'] > pairs.loc[system]).sum())} of {pairs.shape[1]}"


def missing(given: argparse.Namespace, seconds: int) -> list[tuple[int, str]]:
    """Returns the seeds and systems that have no row yet, in the order in which they are run."""
    there = {(row.seed, row.system) for row in rows_of(given.table, seconds).itertuples()}
    systems = [each for each in given.systems if each != "syne-tune" or given.syne_python]
    asked = [(seed, system) for seed in range(given.seeds) for system in systems]
    return [each for each in asked if each not in there]


def rows_of(table: str, seconds: int) -> pd.DataFrame:
    """Returns the rows that there are."""
    if not RESULTS.exists():
        return pd.DataFrame(columns=["table", "seconds", "seed", "system"])
    rows = pd.read_csv(RESULTS)
    return rows[(rows["table"] == table) & (rows["seconds"] == seconds)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=list(SECONDS))
    parser.add_argument("--root", type=Path, required=True, help="the folder of the runs")
    parser.add_argument("--parquet", help="a folder of parquet files, in the place of CIFAR-10")
    parser.add_argument("--seconds", type=int, help="of each run, its start included")
    parser.add_argument("--seeds", type=int, default=5)
    usual = [system for system in SYSTEMS if system != "tool-4"]
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=usual)
    parser.add_argument("--syne-python", help="an interpreter that has Syne Tune")
    given = parser.parse_args()
    # a process that is started in the background would pass on that it ignores Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
    seconds, table = given.seconds or SECONDS[given.table], Table.read(given.table).rows
    for seed, system in missing(given, seconds):
        folder = given.root.absolute() / f"{given.table}-{seconds}-{seed}-{system}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        sweep = sweep_of(given.table, given.parquet, seed, system)
        (folder / "sweep.yaml").write_text(dump_yaml(sweep.dump()))
        typed = command(system, folder, seed, given.syne_python)
        over = run(typed, folder, environment(system, folder), seconds)
        run_of = {"table": given.table, "seconds": seconds, "seed": seed, "system": system}
        found = judged(trials(system, folder, sweep), over, sweep.objectives, table)
        row = pd.DataFrame([run_of | found])
        row.to_csv(RESULTS, mode="a", header=not RESULTS.exists(), index=False, lineterminator="\n")
        print(row.iloc[0].to_dict(), flush=True)
    print(summary(rows_of(given.table, seconds)))


if __name__ == "__main__":
    main()
