"""The other tools of `whole_job.py`: the job of one of them, which goes on until Ctrl-C.

    python benchmarks/whole_job_peers.py --system NAME --sweep SWEEP --folder FOLDER [--seed N]

Each of them is used as its documentation shows. `optuna-tpe` and `optuna-nsga2` are one script with
two objectives, constraints, and nested runs of MLflow. `ray` is Ray Tune with OptunaSearch, which
takes no constraints, and MLflowLoggerCallback, two trials at once. `syne-tune` is MOASHA on a
LocalBackend with two workers, each trial a script of its own (`syne-trial`), without MLflow.
The trials are those of `whole_job_trial.py`. Each that ends adds a line to `trials.jsonl` in the
folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from whole_job_trial import Job, Row

from micronet_search import build
from micronet_search.config.distributions import leaves
from micronet_search.search import screening, space
from micronet_search.search.encoding import encode
from micronet_search.trial.stages import stages

POLL = 0.2
"""Seconds between two looks of Syne Tune at its trials; its own 5 are long beside these trials."""


def run_optuna(job: Job, seed: int, sampler: str) -> None:
    """Runs a study of Optuna's with MLflow."""
    import mlflow
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    mlflow.set_tracking_uri(f"sqlite:///{job.folder}/mlflow.db")
    mlflow.create_experiment("whole-job", (job.folder / "artifacts").as_uri())
    mlflow.set_experiment("whole-job")

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        with mlflow.start_run(nested=True, run_name=f"trial {trial.number}"):
            space.suggest(trial, job.sweep.space)
            mlflow.log_params(trial.params)

            def log(row: Row) -> None:
                mlflow.log_metrics(row, step=int(row["epoch"]))

            row = job.train(job.candidate(trial.params), 1000 * seed + trial.number, log)
            log(row)
        goals = screening.violations(row["accuracy"], row["score"], job.sweep.objectives)
        for name, violation in goals.items():
            trial.set_constraint(name, violation)
        return row["accuracy"], row["score"]

    samplers = {"tpe": optuna.samplers.TPESampler, "nsga2": optuna.samplers.NSGAIISampler}
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(f"{job.folder}/optuna.journal")),
        sampler=samplers[sampler](seed=seed),
        directions=["maximize", "minimize"],
    )
    with mlflow.start_run(run_name="study"):
        study.optimize(objective)


def drawn(trial: Any, tree: Any) -> None:
    """Draws the choices for Ray Tune, which takes them from the trial of Optuna's."""
    space.suggest(trial, tree)


def run_ray(job: Job, seed: int) -> None:
    """Runs Ray Tune, which keeps its trials' processes for the trials that follow."""
    import optuna
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    def train(choices: dict[str, Any], job: Job) -> None:
        tune.report(job.train(job.candidate(choices), 1000 * seed, tune.report))

    search = OptunaSearch(
        space=partial(drawn, tree=job.sweep.space),
        metric=["accuracy", "score"],
        mode=["max", "min"],
        sampler=optuna.samplers.TPESampler(seed=seed),
    )
    uri = f"sqlite:///{job.folder}/mlflow.db"
    callback = MLflowLoggerCallback(uri, experiment_name="whole-job")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        tune.with_parameters(train, job=job),
        tune_config=tune.TuneConfig(search_alg=search, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(storage_path=str(job.folder), callbacks=[callback], verbose=0),
    ).fit()


def run_syne_tune(job: Job, seed: int) -> None:
    """Runs Syne Tune's MOASHA, whose draws come from NumPy's global generator."""
    import numpy as np
    from syne_tune import StoppingCriterion, Tuner
    from syne_tune.backend import LocalBackend
    from syne_tune.config_space import choice
    from syne_tune.optimizer.schedulers.multiobjective.moasha import MOASHA

    np.random.seed(seed)
    found = {path: distribution for path, (distribution, _) in leaves(job.sweep.space).items()}
    options = {path: [encode(d, each) for each in d.options()] for path, d in found.items()}
    first = job.candidate({path: each[0] for path, each in options.items()})
    epochs = stages(first, build.planned(first)[0])[-1].end
    fixed = {"system": "syne-trial", "sweep": job.path, "folder": job.folder, "seed": seed}
    scheduler = MOASHA(
        {path: choice(each) for path, each in options.items()} | fixed,
        metrics=["error", "score"],
        time_attr="epoch",
        max_t=epochs,
        random_seed=seed,
    )
    Tuner(
        LocalBackend(__file__),
        scheduler,
        StoppingCriterion(max_wallclock_time=86_400),
        n_workers=2,
        sleep_time=POLL,
    ).run()


def run_syne_trial(job: Job, seed: int, choices: Mapping[str, str]) -> None:
    """Runs one trial of Syne Tune's."""
    from syne_tune import Reporter

    reporter = Reporter()

    def report(row: Row) -> None:
        reporter(epoch=row["epoch"], error=1 - row["accuracy"], score=row["score"])

    report(job.train(job.candidate(choices), 1000 * seed, report))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    systems = ("optuna-tpe", "optuna-nsga2", "ray", "syne-tune", "syne-trial")
    parser.add_argument("--system", choices=systems, required=True)
    parser.add_argument("--sweep", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    given, others = parser.parse_known_args()  # the choices, among what Syne Tune adds of its own
    job = Job(given.sweep, given.folder, 2 if given.system.startswith("optuna") else 0)
    match given.system.split("-"):
        case "optuna", sampler:
            run_optuna(job, given.seed, sampler)
        case ["ray"]:
            run_ray(job, given.seed)
        case "syne", "tune":
            run_syne_tune(job, given.seed)
        case _:
            names = (name.removeprefix("--") for name in others[::2])
            run_syne_trial(job, given.seed, dict(zip(names, others[1::2], strict=True)))


if __name__ == "__main__":
    main()
