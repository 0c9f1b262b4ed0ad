"""What a trial costs the driver of two other tools, beside `overhead.py`.

    OMP_NUM_THREADS=1 python benchmarks/overhead_peers.py TOOL [--trials N] [--sampler NAME]

`optuna` is a plain Optuna script that logs its epochs to MLflow, as their documentation shows.
`ray` is Ray Tune with OptunaSearch and MLflowLoggerCallback. Both draw the same choices, train
nothing and log the same metrics, params and files. Ray's other processes are not counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml
from overhead import CHOICES, Meter, finished, measure

from micronet_search.store.outcome import Outcome


def suggest(trial: Any) -> dict[str, Any]:
    """Draws the choices from a trial of Optuna's."""
    return {
        name: trial.suggest_float(name, *values, log=True)
        if isinstance(values, tuple)
        else trial.suggest_categorical(name, values)
        for name, values in CHOICES.items()
    }


def drawn(trial: Any) -> None:
    """Draws the choices for Ray Tune, which takes them from the trial."""
    suggest(trial)


def write_files(folder: Path, number: int, choices: dict[str, Any]) -> tuple[Outcome, list[Path]]:
    """Writes the files that MLflow keeps of a trial."""
    result = finished(number, choices)
    folder.mkdir(parents=True, exist_ok=True)
    contents = {name: result.files[name] for name in result.files if "fitted" not in name}
    contents["candidate.yaml"] = yaml.safe_dump(choices).encode()
    contents["outcome.json"] = json.dumps(result.outcome.to_json()).encode()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return result.outcome, [folder / name for name in contents]


def figures(outcome: Outcome) -> dict[str, float]:
    """Returns what is logged once of a trial."""
    found = {f"score.{name}": parts["score"] for name, parts in outcome.scores.items()}
    own = {f"score.{name}": value for name, value in outcome.scores["imt"].items()}
    seconds = {f"seconds.{stage}": spent for stage, spent in outcome.seconds.items()}
    counts = {name: float(value or 0) for name, value in outcome.totals().items()}
    return {"accuracy": outcome.accuracy or 0.0, **found, **own, **seconds, **counts}


def sampler_of(name: str) -> Any:
    """Returns a sampler of Optuna's by its name here."""
    import optuna

    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    return samplers[name](seed=0)


def run_optuna(folder: Path, trials: int, sampler: str, meter: Meter) -> None:
    """Runs Optuna with MLflow as their documentation shows: nested runs, a call an epoch."""
    import mlflow
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.create_experiment("overhead", (folder / "artifacts").as_uri())
    mlflow.set_experiment("overhead")

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        meter.mark()
        with mlflow.start_run(nested=True, run_name=f"trial {trial.number}"):
            choices = suggest(trial)
            mlflow.log_params(choices)
            outcome, paths = write_files(folder / str(trial.number), trial.number, choices)
            for row in outcome.curve:
                found = {"train.loss": row.loss, "validation.accuracy": row.accuracy}
                mlflow.log_metrics(found, step=row.epoch)
            mlflow.log_metrics(figures(outcome))
            for path in paths:
                mlflow.log_artifact(str(path))
        return outcome.accuracy or 0.0, outcome.scores["imt"]["score"]

    storage = JournalStorage(JournalFileBackend(f"{folder}/optuna.journal"))
    directions = ["maximize", "minimize"]
    study = optuna.create_study(
        storage=storage, sampler=sampler_of(sampler), directions=directions, study_name="overhead"
    )
    with mlflow.start_run(run_name="study"):
        study.optimize(objective, n_trials=trials)


def run_ray(folder: Path, trials: int, sampler: str, meter: Meter) -> None:
    """Runs Ray Tune with its own search through Optuna and its own callback for MLflow."""
    import optuna
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)

    class Search(OptunaSearch):
        def suggest(self, trial_id: str) -> Any:
            meter.mark()
            return super().suggest(trial_id)

    def train(choices: dict[str, Any]) -> None:
        outcome, _ = write_files(Path.cwd(), 0, choices)
        for row in outcome.curve[:-1]:
            tune.report({"loss": row.loss, "accuracy": row.accuracy, "score": 0.0})
        score = outcome.scores["imt"]["score"]
        last = figures(outcome) | {"loss": outcome.curve[-1].loss, "score": score}
        tune.report(last)

    search = Search(
        space=drawn,
        metric=["accuracy", "score"],
        mode=["max", "min"],
        sampler=sampler_of(sampler),
    )
    uri = f"sqlite:///{folder}/mlflow.db"
    callback = MLflowLoggerCallback(uri, experiment_name="overhead", save_artifact=True)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        train,
        tune_config=tune.TuneConfig(search_alg=search, num_samples=trials),
        run_config=tune.RunConfig(storage_path=str(folder), callbacks=[callback], verbose=0),
    ).fit()
    ray.shutdown()


RUNS = {"optuna": run_optuna, "ray": run_ray}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tool", choices=RUNS)
    parser.add_argument("--trials", type=int, default=60)
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    options = parser.parse_args()
    measure(RUNS[options.tool], options.trials, options.sampler)


if __name__ == "__main__":
    main()
