"""What a trial costs the driver beside its training, and what it costs two other tools.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py [--trials N] [--sampler NAME] [--peer NAME]

Runs a study whose slots train nothing: each answers a job at once with 20 epochs and the files of a
small network. All else is a study's own: draws with 8 choices, Optuna's journal, the files of each
trial, MLflow's SQLite store with metrics, params, tags and artifacts, the front and its picture.
`--peer optuna` is a plain Optuna script that logs its epochs to MLflow, and `--peer ray` is Ray Tune
with OptunaSearch and MLflowLoggerCallback; both log the same metrics, params and files.

Prints, as a Markdown table, the processor seconds of the driver's process a trial and its memory,
around some trials. Ray's other processes are not counted.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from micronet_search.config.sweep import Sweep
from micronet_search.engine.work import Ended, Event, Job, Order, Trained
from micronet_search.store.outcome import Epoch, Outcome, Result
from micronet_search.store.paths import Root
from micronet_search.study import opening

EPOCHS = 20
AROUND = (10, 100, 500, 1000, 2000)
LAYERS = b"name,parameters,nonzeros,macs\n" + b"block.layer.weight,4608,2304,294912\n" * 24
FILES = {
    "layers.csv": LAYERS,
    "model.safetensors": os.urandom(60_000),
    "fitted.safetensors": os.urandom(260_000),
}
CHOICES: dict[str, Any] = {
    "network.stem.width": [8, 12, 16],
    "network.growth_rate": [4, 8, 12],
    "network.groups": [1, 2],
    "training.learning_rate": (3e-3, 2e-2),
    "training.weight_decay": (1e-6, 1e-3),
    "training.label_smoothing": [0.0, 0.05, 0.1],
    "quantization.weight_bits": [2, 3, 4, 8],
    "quantization.activation_bits": [3, 4, 8],
}


class Meter:
    """Notes the processor time and the memory of this process at the start of each trial."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """Notes that another trial starts."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used = sum(os.times()[:4])  # of this process and of the children that it has waited for
        self._marks.append((used, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def table(self) -> str:
        """Returns a row for each place that was reached, as Markdown."""
        lines = ["| around trial | processor seconds a trial | memory, MiB |", "|---|---|---|"]
        for place in AROUND:
            half = min(place // 2, 50)
            last = min(place + half, len(self._marks) - 1)
            if last >= place:
                first = place - half
                used = self._marks[last][0] - self._marks[first][0]
                memory = self._marks[place][1]
                lines.append(f"| {place:,} | {used / (last - first):.3f} | {memory:.0f} |")
        return "\n".join(lines)


def finished(number: int, choices: dict[str, Any]) -> Result:
    """Returns the result of a trial that trained nothing; its figures follow from its choices."""
    rate, bits = choices["training.learning_rate"], choices["quantization.weight_bits"]
    width = choices["network.growth_rate"] * choices["network.stem.width"]
    score = bits * width / 1e5 + number % 97 / 1e6
    best = min(0.99, 0.9 + 0.01 * bits * rate**0.5 + width / 4000 - number % 89 / 2000)
    curve = tuple(
        Epoch(epoch, "fit", 2 / epoch, best * (1 - 0.5 / epoch), 0.1, time.time())
        for epoch in range(1, EPOCHS + 1)
    )
    parts = {"parameters": score / 2, "operations": score / 2, "score": score}
    outcome = Outcome(
        state="complete",
        started=time.time(),
        ended=time.time(),
        device="cpu",
        accuracy=best,
        scores={"imt": parts, "micronet2019": parts},
        parameters=1000 * width,
        nonzeros=500 * width,
        macs=10**5 * width,
        storage_bits=4000 * width,
        seconds={"fit": 2.0, "quantize": 1.0},
        curve=curve,
    )
    rows = [",".join(map(str, vars(row).values())) for row in curve]
    table = "\n".join(["epoch,stage,loss,accuracy,seconds,ended", *rows, ""])
    return Result(outcome, {**FILES, "curve.csv": table.encode()})


class Idle:
    """An engine that trains nothing: its two slots answer at once."""

    slots = 2

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._events: deque[tuple[int, Event]] = deque()

    def start(self, job: Job) -> None:
        """Has a job say all of its epochs, and that it has ended."""
        self._meter.mark()
        tree = job.candidate.model_dump()
        network, quantization = tree["network"], tree["quantization"]
        choices = {
            "network.growth_rate": network["growth_rate"],
            "network.stem.width": network["stem"]["width"],
            "training.learning_rate": tree["training"]["learning_rate"],
            "quantization.weight_bits": quantization["weight_bits"],
        }
        result = finished(job.number, choices)
        self._events += [(job.number, Trained(row, EPOCHS)) for row in result.outcome.curve]
        self._events.append((job.number, Ended(result)))

    def wait(self) -> tuple[int, Event] | None:
        """Returns the next event."""
        return self._events.popleft()

    def order(self, number: int, order: Order) -> None:
        """Is never called: no job waits for an order."""
        raise AssertionError(number, order)

    def pause(self) -> None:
        """Has nothing to pause."""

    def release(self, number: int) -> None:
        """Has nothing to free."""

    def close(self) -> None:
        """Has nothing to end."""


def sweep(trials: int, sampler: str) -> Sweep:
    """Returns a sweep with the choices."""
    tree: dict[str, Any] = {
        "network": {"family": "densenet", "layers": [2, 2], "bottleneck": 2},
        "training": {"epochs": 15, "batch_size": 64, "optimizer": "adam"},
        "quantization": {"epochs": 5},
    }
    for path, values in CHOICES.items():
        *above, last = path.split(".")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
        bounds = isinstance(values, tuple)
        node[last] = (
            {"low": values[0], "high": values[1], "log": True} if bounds else {"choices": values}
        )
    return Sweep.model_validate(
        {
            "name": "overhead",
            "dataset": {"name": "digits", "validation": 300},
            "objectives": {"accuracy": {"at_least": 0.9}, "score": {"at_most": 1.0}},
            "candidate": tree,
            "search": {"trials": trials, "sampler": {"name": sampler}},
        }
    )


def run_study(folder: Path, trials: int, sampler: str, meter: Meter) -> None:
    """Runs a study of this tool's."""
    opening.open_engine = lambda *_: (Idle(meter), "cpu")  # type: ignore[assignment]
    opening.run(sweep(trials, sampler), Root(folder), lambda *_: None)


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
    import json

    import yaml

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
        outcome, paths = write_files(Path.cwd(), 0, choices)
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


RUNS: dict[str, Callable[[Path, int, str, Meter], None]] = {
    "none": run_study,
    "optuna": run_optuna,
    "ray": run_ray,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2050)
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    parser.add_argument("--peer", choices=RUNS, default="none")
    options = parser.parse_args()
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        RUNS[options.peer](Path(folder), options.trials, options.sampler, meter)
    print(meter.table())


if __name__ == "__main__":
    main()
