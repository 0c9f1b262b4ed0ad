"""Replays Ax, SMAC and Syne Tune on the tables of `benchmarks/tabular`, beside `frontier`.

    OMP_NUM_THREADS=1 python benchmarks/search_peers.py digits
    OMP_NUM_THREADS=1 python benchmarks/search_peers.py cifar10

They need an environment of their own: `pip install -c constraints.txt -e '.[benchmarks]'`. Each is
used as its documentation shows for two objectives, and for constraints if it has them; every draw
is a trial, as of Optuna's in `search.py`. Studies that have ended are kept in a file, and are not
run again. Written beside this script: `results/search-peers-TABLE.csv` and a picture.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import time
import warnings
from collections.abc import Callable, Generator
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from search import RESULTS, SAMPLERS, TRIALS, Run, Sampler, Tried, draw, outcome, run, summary
from tabular.table import Table

from micronet_search.config import distributions
from micronet_search.search import screening
from micronet_search.search.encoding import Parameter, encode

Study = Generator[dict[str, Any], tuple[float, float], None]
"""Yields the values of each draw by their paths; its accuracy and its score are sent back."""


def choices(table: Table) -> dict[str, list[Parameter]]:
    """Returns the values of every choice by its path, as scalars."""
    leaves = distributions.leaves(table.sweep.space).items()
    return {path: [encode(leaf, value) for value in leaf.options()] for path, (leaf, _) in leaves}


def parents(table: Table) -> dict[str, tuple[str, str]]:
    """Returns the choice and the branch of it that each choice depends on, if it does."""
    leaves = distributions.leaves(table.sweep.space).items()
    return {path: list(branches.items())[-1] for path, (_, branches) in leaves if branches}


def are_numbers(values: list[Parameter]) -> bool:
    return not isinstance(values[0], str)


def with_ax(table: Table, seed: int) -> Study:
    """Both goals are thresholds of their objectives, and choices on a branch depend on it."""
    from ax.api.client import Client
    from ax.api.configs import ChoiceParameterConfig

    dependent: dict[str, dict[str, list[str]]] = {}
    for path, (parent, branch) in parents(table).items():
        dependent.setdefault(parent, {}).setdefault(branch, []).append(path)
    goals, client = table.sweep.objectives, Client(random_seed=seed)
    client.configure_experiment(
        [
            ChoiceParameterConfig(
                name=path,
                values=values,
                parameter_type=type(values[0]).__name__,
                is_ordered=are_numbers(values),
                dependent_parameters=dependent.get(path),
            )
            for path, values in choices(table).items()
        ]
    )
    client.configure_optimization(
        "accuracy, -score",
        [f"accuracy >= {goals.accuracy.at_least}", f"score <= {goals.score.at_most}"],
    )
    while True:
        for index, values in client.get_next_trials(max_trials=1).items():
            accuracy, score = yield values
            client.complete_trial(index, {"accuracy": accuracy, "score": score})


def conditional(table: Table, seed: int) -> Any:
    """Returns the space as SMAC takes it."""
    import ConfigSpace as C

    space = C.ConfigurationSpace(seed=seed)
    for path, values in choices(table).items():
        kind = C.OrdinalHyperparameter if are_numbers(values) else C.CategoricalHyperparameter
        space.add(kind(path, values))
    for path, (parent, branch) in parents(table).items():
        space.add(C.EqualsCondition(space[path], space[parent], branch))
    return space


def with_smac(table: Table, seed: int) -> Study:
    """ParEGO, which knows no constraints.

    With the 16 retries of its default, it raises that the space is exhausted where it is not.
    """
    from smac import HyperparameterOptimizationFacade as Facade
    from smac import Scenario
    from smac.multi_objective.parego import ParEGO
    from smac.runhistory import TrialValue

    with TemporaryDirectory() as folder:
        scenario = Scenario(
            conditional(table, seed),
            output_directory=Path(folder),
            deterministic=True,
            objectives=["error", "score"],
            n_trials=len(table.rows),
            seed=seed,
        )
        facade = Facade(
            scenario,
            lambda config, seed: {},
            initial_design=Facade.get_initial_design(scenario, n_configs=5),
            multi_objective_algorithm=ParEGO(scenario),
            config_selector=Facade.get_config_selector(scenario, retries=10_000),
            logging_level=logging.ERROR,
            overwrite=True,
        )
        while True:
            info = facade.ask()
            accuracy, score = yield dict(info.config)
            facade.tell(info, TrialValue(cost=[1 - accuracy, score]), save=False)


def with_syne_tune(method: str, table: Table, seed: int) -> Study:
    """Its methods for several objectives know neither constraints nor conditions.

    EHVI's reference point is -2 for every metric; the metrics are shifted so that it is the goals.
    It mixes precisions too, which BoTorch refuses, unless all are double.
    """
    from syne_tune.config_space import choice, ordinal
    from syne_tune.optimizer.baselines import EHVI
    from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler
    from syne_tune.optimizer.schedulers.multiobjective import MultiObjectiveRegularizedEvolution
    from syne_tune.optimizer.schedulers.single_fidelity_scheduler import SingleFidelityScheduler

    torch.set_default_dtype(torch.float64)
    space = {
        path: ordinal(values) if are_numbers(values) else choice(values)
        for path, values in choices(table).items()
    }
    metrics = ["accuracy", "score"]
    if method == "EHVI":
        scheduler = EHVI(space, metrics, random_seed=seed)
    else:
        searcher = MultiObjectiveRegularizedEvolution(space, random_seed=seed)
        scheduler = SingleFidelityScheduler(space, metrics, searcher=searcher, random_seed=seed)
    study = AskTellScheduler(scheduler)
    while True:
        trial = study.ask()
        accuracy, score = yield trial.config
        missed = screening.violations(accuracy, score, table.sweep.objectives)
        study.tell(trial, {metric: missed[metric] - 2 for metric in metrics})


def with_peer(peer: Callable[[Table, int], Study], table: Table, seed: int) -> Tried:
    """Replays a study of a peer."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    study = peer(table, seed)
    values = next(study)
    while True:
        digest = table.prospects.of(tree(table, values)).digest
        yield digest
        values = study.send(outcome(table, digest, seed))


def tree(table: Table, values: dict[str, Any]) -> Any:
    """Returns the tree of a draw, in which choices on other branches may have values too."""

    def pick(path: str, leaf: distributions.Distribution) -> Any:
        return next(value for value in leaf.options() if encode(leaf, value) == values[path])

    return distributions.draw(table.sweep.space, pick).tree


PEERS: dict[str, Sampler] = {
    "frontier": SAMPLERS["frontier"],
    "Ax": partial(with_peer, with_ax),
    "SMAC ParEGO": partial(with_peer, with_smac),
    "Syne Tune MO-REA": partial(with_peer, partial(with_syne_tune, "MO-REA")),
    "Syne Tune EHVI": partial(with_peer, partial(with_syne_tune, "EHVI")),
}


def read(file: Path, name: str) -> dict[int, dict[str, Any]]:
    """Returns the studies of a sampler that have ended, by their seeds."""
    lines = file.read_text().splitlines() if file.exists() else []
    studies = [json.loads(line) for line in lines]
    return {study["seed"]: study for study in studies if study["sampler"] == name}


def write(table: str, file: Path) -> None:
    """Writes the table of all studies that have ended, and the picture."""
    rows, curves = [], dict[str, list[Run]]()
    for name in PEERS:
        if studies := read(file, name).values():
            lengths = [len(study["scores"]) for study in studies]
            least, seconds = min(lengths), sum(study["seconds"] for study in studies) / sum(lengths)
            curves[name] = [
                Run(study["hypervolumes"][:least], study["scores"][:least]) for study in studies
            ]
            row = summary(name, curves[name])
            rows.append(row | {"trials": least, "seconds a draw": f"{seconds:.2g}"})
    target = RESULTS / f"search-peers-{table}.csv"
    pd.DataFrame(rows).to_csv(target, index=False, lineterminator="\n")
    draw(table, curves, target.with_suffix(".png"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", choices=list(TRIALS))
    parser.add_argument("--samplers", nargs="+", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, help="200 on digits, 120 on cifar10")
    parser.add_argument("--runs", type=Path, default=Path("mlruns/benchmarks"), help="the folder")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    table, trials = Table.read(given.table), given.trials or TRIALS[given.table]
    given.runs.mkdir(parents=True, exist_ok=True)
    file = given.runs / f"search-peers-{given.table}.jsonl"
    for name in given.samplers:
        for seed in set(range(given.seeds)) - set(read(file, name)):
            start = time.process_time()
            found = run(PEERS[name], table, trials, seed)
            study = {"sampler": name, "seed": seed, "seconds": time.process_time() - start}
            with file.open("a") as lines:
                lines.write(json.dumps(study | found._asdict()) + "\n")
            print(study, found.hypervolumes[-1], flush=True)
        write(given.table, file)


if __name__ == "__main__":
    main()
