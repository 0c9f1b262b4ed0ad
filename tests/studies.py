"""Studies as a user runs and finds them: commands in processes of their own, and what they leave.

A command is forked from a server that has imported everything once (`warm`), because torch, Optuna
and MLflow take five seconds to import. Apart from that it is a process like any other, with its own
signals and exit code.
"""

from __future__ import annotations

import csv
import functools
import importlib
import io
import itertools
import json
import multiprocessing
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from micronet_search.config.files import dump_yaml, load_sweep
from micronet_search.search import stopping
from micronet_search.store import checkpoint
from micronet_search.store.outcome import Epoch, Outcome
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.survey import is_feasible, score_of, survey, violations

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
STATES = {
    "complete": TrialState.COMPLETE,
    "stopped": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
HEAD = {
    "num_cpus": 0,
    "include_dashboard": False,
    "_system_config": {"health_check_initial_delay_ms": 0, "health_check_period_ms": 200},
}
"""The head of a Ray cluster of tests: it runs no trials, and soon notices a node that died."""


# --- commands ---


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error, without its `error: `."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.err.startswith("error: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.removeprefix("error: ").rstrip("\n")


def _place(path: str) -> tuple[Any, str]:
    """What a `module:Class.name` is an attribute of, and the attribute's name."""
    module, _, names = path.partition(":")
    *above, name = names.split(".")
    return functools.reduce(getattr, above, importlib.import_module(module)), name


def _at(function: str, before: Callable[[int], None], after: Callable[[int], object] = id) -> None:
    """Has a function do something else too, before and after each of its calls, from call 1."""
    owner, name = _place(function)
    original, calls = getattr(owner, name), itertools.count(1)

    @functools.wraps(original)
    def wrapper(*arguments: Any, **options: Any) -> Any:
        call = next(calls)
        before(call)
        result = original(*arguments, **options)
        after(call)
        return result

    setattr(owner, name, wrapper)


@dataclass(frozen=True)
class Kill:
    """The moment at which a command kills itself as SIGKILL would: a call, before or after it."""

    function: str
    when: str
    call: int = 1

    def arm(self) -> None:
        def before(call: int) -> None:
            if call == self.call and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)

        def after(call: int) -> None:
            if call == self.call:
                os.kill(os.getpid(), signal.SIGKILL)

        _at(self.function, before, after)


@dataclass(frozen=True)
class Signal:
    """A signal that a command gets in the middle of a call, once or several times."""

    function: str
    number: signal.Signals
    call: int
    times: int = 1

    def arm(self) -> None:
        def send(call: int) -> None:
            for _ in range(self.times if call == self.call else 0):
                os.kill(os.getpid(), self.number)

        _at(self.function, send)


@dataclass(frozen=True)
class Setting:
    """Another value of a name in a module, for a command."""

    name: str
    value: Any

    def arm(self) -> None:
        setattr(*_place(self.name), self.value)


@dataclass(frozen=True)
class Fault:
    """A call that fails, and `lasts` also those after it; the others do not."""

    function: str
    call: int
    error: Exception
    lasts: bool = False

    def arm(self) -> None:
        def fail(call: int) -> None:
            if call == self.call or (self.lasts and call > self.call):
                raise self.error

        _at(self.function, fail)


@dataclass(frozen=True)
class Hold:
    """A call that waits until a file is there, so that a test comes first however slow it is."""

    function: str
    call: int
    until: Path

    @property
    def reached(self) -> Path:
        """A file that is there once the call has come."""
        return self.until.with_suffix(".reached")

    def arm(self) -> None:
        def wait(call: int) -> None:
            if call == self.call:
                self.reached.touch()
                while not self.until.exists():
                    time.sleep(0.005)

        _at(self.function, wait)


@dataclass(frozen=True)
class Memory:
    """A limit on what a command may take beside what it has taken by its start, in bytes."""

    size: int

    def arm(self) -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + self.size
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


Change = Kill | Signal | Setting | Fault | Hold | Memory
"""What is otherwise in a command than a user has it."""
ENDLESS = 10**6
"""Trials of a study that a test breaks off, so that it cannot end before the test comes to it."""
PATIENCE = 600.0
"""Seconds after which what a test waits for is taken not to come, also on a busy machine."""


class Command:
    """`micronet-search` with arguments, as it runs."""

    def __init__(
        self,
        *arguments: object,
        cwd: Path,
        environment: dict[str, str] | None = None,
        kill: Change | Sequence[Change] = (),
    ) -> None:
        self._paths = [cwd / f".{time.monotonic_ns()}.{name}" for name in ("out", "err")]
        texts = [str(argument) for argument in arguments]
        paths = [str(path) for path in self._paths]
        changes = list(kill) if isinstance(kill, Sequence) else [kill]
        self._process = _server().Process(
            target=_main, args=(texts, str(cwd), paths, environment or {}, changes)
        )
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def out(self) -> str:
        return self._paths[0].read_text() if self._paths[0].exists() else ""

    @property
    def pid(self) -> int | None:
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def wait(self, seconds: float = PATIENCE) -> Done:
        self._process.join(seconds)
        if self.running:
            self._process.kill()
            self._process.join()
            raise TimeoutError(self.out)
        code = self._process.exitcode
        assert code is not None
        out, err = (path.read_text() if path.exists() else "" for path in self._paths)
        for path in self._paths:
            path.unlink(missing_ok=True)
        return Done(code, out, err)

    def until(self, condition: Callable[[], Any], seconds: float = PATIENCE) -> bool:
        """Waits until something is so, looking often; False where the command ended first."""
        end = time.monotonic() + seconds
        while not condition():
            if not self.running:
                return False
            assert time.monotonic() < end, self.out
            time.sleep(0.002)
        return True


def processes(driver: int | None) -> dict[str, list[int]]:
    """A driver with a Ray cluster of its own: its process, its node's and its slots'."""
    command = ["ps", "-ww", "-eo", "pid,ppid,args"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in found.splitlines()[1:]]
    children = [(int(pid), int(parent), name) for pid, parent, name in rows]
    nodes = [pid for pid, parent, name in children if parent == driver and "/raylet " in name]
    slots = [pid for pid, parent, name in children if parent in nodes and "::Member" in name]
    return {"driver": [driver] if driver else [], "node": nodes, "slot": slots}


def alive(driver: int | None = None) -> set[tuple[str, str]]:
    """Processes, with their start: a driver and all below it, or every one that there is."""
    command = ["ps", "-eo", "pid,ppid,stat,lstart"]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in found.splitlines()[1:]]
    living = {pid: (parent, start) for pid, parent, state, start in rows if state[0] != "Z"}
    chosen = set(living) if driver is None else {str(driver)}
    while more := {pid for pid in living if living[pid][0] in chosen} - chosen:
        chosen |= more
    return {(pid, living[pid][1]) for pid in chosen & set(living)}


def cli(*arguments: object, cwd: Path, environment: dict[str, str] | None = None) -> Done:
    """Runs `micronet-search` with arguments to its end."""
    return Command(*arguments, cwd=cwd, environment=environment).wait()


def interrupted(*arguments: object, cwd: Path, at: str, call: int) -> Done:
    """Runs `micronet-search` with arguments, and sends Ctrl-C while it is in a call."""
    hold = Hold(at, call, cwd / "go")
    command = Command(*arguments, cwd=cwd, kill=hold)
    assert command.until(hold.reached.exists)
    command.send(signal.SIGINT)
    hold.until.touch()
    return command.wait()


def _server() -> multiprocessing.context.ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    os.environ.update({key: os.environ.get(key, value) for key, value in ENVIRONMENT.items()})
    folder, known = str(Path(__file__).parent), os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if folder not in known:  # where `warm` is found
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *filter(None, known)])
    context.set_forkserver_preload(["warm"])
    return context


def start_server() -> None:
    """Has the server of processes begin, unless it has; it makes an empty store of MLflow's."""
    first = _server().Process(target=int)
    first.start()
    first.join()


def _main(
    arguments: list[str],
    cwd: str,
    paths: list[str],
    environment: dict[str, str],
    changes: list[Change],
) -> None:
    for path, stream in zip(paths, (sys.stdout, sys.stderr), strict=True):
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, stream.fileno())
    os.chdir(cwd)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_LOGGING_LEVEL"):
        os.environ.pop(name, None)
    os.environ.update(ENVIRONMENT | environment)
    # a test run in the background of a script ignores Ctrl-C, and its children with it
    signal.signal(signal.SIGINT, signal.default_int_handler)
    import torch

    from micronet_search import cli

    torch.set_num_threads(1)
    for change in changes:
        change.arm()
    sys.argv = ["micronet-search", *arguments]
    cli.main()


# --- sweeps ---


def tiny(name: str = "tiny", **changes: Any) -> dict[str, Any]:
    """A sweep that takes a fraction of a second a trial; a change may name a dotted path."""
    tree: dict[str, Any] = {
        "name": name,
        "dataset": {"name": "digits", "validation": 100, "limit": 300},
        "objectives": {"accuracy": {"at_least": 0.2}, "score": {"rule": "imt", "at_most": 0.01}},
        "candidate": {
            "network": {
                "family": "densenet",
                "stem": {"width": {"choices": [4, 8]}},
                "growth_rate": {"low": 4, "high": 12, "step": 2},
                "layers": {"choices": [[1, 1], [2, 1]]},
                "bottleneck": 2,
            },
            "training": {
                "epochs": 3,
                "batch_size": 32,
                "optimizer": "adam",
                "learning_rate": {"low": 3e-3, "high": 2e-2, "log": True},
            },
            "pruning": {"sparsity": {"low": 0.2, "high": 0.8, "step": 0.1}, "epochs": 1},
            "quantization": {
                "weight_bits": {"choices": [4, 8]},
                "activation_bits": 8,
                "epochs": 1,
            },
        },
        "search": {"trials": 3, "sampler": {"name": "random"}, "seed": 3},
    }
    for path, value in changes.items():
        *above, last = path.split("__")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
        node[last] = value
    # Ray would take seconds to start
    tree["execution"] = {"trials_per_device": 1} | tree.get("execution", {})
    return tree


def script(name: str) -> Any:
    """Imports a script of the benchmarks, which lie beside the package."""
    folder = str(Path(__file__).parent.parent / "benchmarks")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def write(path: Path, tree: Any) -> Path:
    path.write_text(dump_yaml(tree))
    return path


# --- what a study leaves ---


@dataclass(frozen=True)
class Run:
    """A run of MLflow's."""

    id: str
    status: str
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, dict[int, float]] = field(default_factory=dict)
    artifacts: Path = Path()


@dataclass(frozen=True)
class Left:
    """A study as its files, Optuna and MLflow tell it."""

    root: Root
    name: str
    outcomes: dict[int, Outcome]
    optuna: list[FrozenTrial]
    parent: Run
    children: dict[int, Run]
    repeats: dict[str, Run]

    def folder(self, number: int) -> Path:
        return self.root.study(self.name).trial(number).path

    @property
    def candidates(self) -> dict[int, str]:
        return {n: (self.folder(n) / "candidate.yaml").read_text() for n in self.outcomes}


def outcomes(root: Path, name: str) -> dict[int, Outcome]:
    folder = Root(root).study(name)
    paths = {number: folder.trial(number).outcome for number in folder.trials()}
    return {
        number: Outcome.from_json(json.loads(path.read_text()))
        for number, path in paths.items()
        if path.exists()
    }


def optuna_trials(root: Path, name: str, url: str | None = None) -> list[FrozenTrial]:
    storage: str | JournalStorage
    journal = Root(root).study(name).journal
    storage = url or JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name=name, storage=storage)
    assert study.metric_names == ["accuracy", "score"]
    return study.get_trials()


def read(root: Path, name: str, url: str | None = None) -> Left:
    """Everything that is left of a study; fails where MLflow has a run twice."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        runs = list(_runs(database, name, root))
    (parent,) = [run for run in runs if "study" in run.tags]
    children = [run for run in runs if "trial" in run.tags]
    numbered = {int(run.tags["trial"]): run for run in children}
    confirming = [run for run in runs if run.tags.get("confirm") == "true"]
    named = {run.tags["mlflow.runName"].removeprefix("repeat "): run for run in confirming}
    assert len(numbered) == len(children)
    assert len(named) == len(confirming) == len(runs) - len(children) - 1
    assert all(run.tags["mlflow.parentRunId"] == parent.id for run in children + confirming)
    ended, trials = outcomes(root, name), optuna_trials(root, name, url)
    return Left(Root(root), name, ended, trials, parent, dict(sorted(numbered.items())), named)


def _runs(database: sqlite3.Connection, name: str, root: Path) -> Iterator[Run]:
    found = database.execute(
        "SELECT run_uuid, status, artifact_uri FROM runs JOIN experiments USING (experiment_id) "
        "WHERE experiments.name = ?",
        [name],
    )
    for run_id, status, uri in found.fetchall():
        pairs = [
            dict(database.execute(f"SELECT key, value FROM {table} WHERE run_uuid = ?", [run_id]))
            for table in ("params", "tags")
        ]
        metrics: dict[str, dict[int, float]] = {}
        query = "SELECT key, step, value FROM metrics WHERE run_uuid = ?"
        for key, step, value in database.execute(query, [run_id]):
            assert step not in metrics.setdefault(key, {}), f"{key} is doubled"
            metrics[key][step] = value
        kept_by_a_server = uri.replace("mlflow-artifacts:", str(root / "artifacts"))
        artifacts = Path(kept_by_a_server.removeprefix("file://").replace("%20", " "))
        yield Run(run_id, status, *pairs, metrics, artifacts)


def assert_whole(left: Left, *, trials: int) -> None:
    """What must be so of a study that reached its total, whatever happened on the way."""
    assert len(left.outcomes) == trials
    sweep = load_sweep(left.root.study(left.name).sweep)
    goals = sweep.objectives
    kept = [t for t in left.optuna if "screened" not in t.user_attrs and t.state.is_finished()]
    assert [t.number for t in kept] == sorted(left.outcomes) == list(left.children)
    assert not any(t.state == TrialState.RUNNING for t in left.optuna)
    for frozen in kept:
        outcome = left.outcomes[frozen.number]
        _assert_told(frozen, outcome, goals)
        _assert_recorded(left, frozen, outcome, is_feasible(outcome, goals))
        checkpoint = left.folder(frozen.number) / "checkpoint.safetensors"
        assert not (outcome.state == "complete" and checkpoint.exists())
        assert [row.epoch for row in outcome.curve] == list(range(1, len(outcome.curve) + 1))

    found = survey(left.outcomes, goals)
    parent = left.parent
    assert parent.status == "FINISHED"
    steps = parent.metrics["hypervolume"]
    assert sorted(steps) == list(range(1, trials + 1))
    history = [steps[step] for step in sorted(steps)]
    assert history == sorted(history)
    assert history[-1] == found.hypervolume
    if found.best_score is not None:
        best = parent.metrics["best_score"]
        assert best[max(best)] == found.best_score
    tagged = {n for n, run in left.children.items() if run.tags["front"] == "true"}
    assert tagged == set(found.front)
    assert (parent.artifacts / "sweep.yaml").read_bytes() == left.root.study(
        left.name
    ).sweep.read_bytes()
    assert (parent.artifacts / "front.png").read_bytes().startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO((parent.artifacts / "front.csv").read_text())))
    assert [int(row["trial"]) for row in rows] == list(found.front)
    for row in rows:
        outcome = left.outcomes[int(row["trial"])]
        assert float(row["accuracy"]) == outcome.accuracy
        assert float(row["score"]) == score_of(outcome, goals)


def assert_judged(left: Left) -> None:
    """Every trial was judged by asha at every rung that it reached, against those before it."""
    sweep = load_sweep(left.root.study(left.name).sweep)
    early = sweep.search.early_stopping
    rungs = early.rungs(sweep.candidate["training"]["epochs"])
    reached: dict[int, list[float]] = {rung: [] for rung in rungs}
    for number, outcome in left.outcomes.items():
        known = left.optuna[number].user_attrs.get("rungs", {})
        passed = [rung for rung in rungs if rung <= len(outcome.curve)]
        assert known.keys() == {str(rung) for rung in passed}
        for rung in passed:
            accuracy, _ = known[str(rung)]
            assert accuracy == outcome.curve[rung - 1].accuracy
            others = np.array(reached[rung], dtype=float)
            on = stopping.goes_on(accuracy, others, early.reduction)
            assert on == (outcome.state != "stopped" or rung < len(outcome.curve))
            reached[rung].append(accuracy)


def _assert_told(frozen: FrozenTrial, outcome: Outcome, goals: Any) -> None:
    assert frozen.state == STATES[outcome.state]
    complete = outcome.state == "complete"
    assert frozen.values == ([outcome.accuracy, score_of(outcome, goals)] if complete else None)
    expected = violations(outcome, goals)
    assert len(expected) == (0 if outcome.state == "failed" else 2)
    assert constraints(frozen) == expected


def constraints(frozen: FrozenTrial) -> dict[str, float]:
    return dict(frozen.constraints)


def _assert_recorded(left: Left, frozen: FrozenTrial, outcome: Outcome, feasible: bool) -> None:
    run = left.children[frozen.number]
    status = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
    assert run.status == status[outcome.state]
    assert run.tags["state"] == outcome.state
    assert run.tags["feasible"] == str(feasible).lower()
    assert run.tags.get("reason") == outcome.reason
    assert run.tags.get("rung") == (str(len(outcome.curve)) if outcome.state == "stopped" else None)
    assert run.params == {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in frozen.params.items()
    }
    once = {key: values[0] for key, values in run.metrics.items() if 0 in values}
    if outcome.accuracy is not None:
        for name in ("accuracy", "parameters", "nonzeros", "macs"):
            name = name if name == "accuracy" else f"cost/{name}"
            assert once[name] == getattr(outcome, name.split("/")[-1])
        assert once["cost/storage_bytes"] == outcome.storage_bits / 8
        for rule, parts in outcome.scores.items():
            assert once["score" if rule == "imt" else f"score/{rule}"] == parts["score"]
    for name, key in (("train/loss", "loss"), ("validation/accuracy", "accuracy")):
        is_kept = outcome.state != "stopped" or key == "accuracy"
        expected = {row.epoch: getattr(row, key) for row in outcome.curve if is_kept}
        assert run.metrics.get(name, {}) == expected
    # a kill in the middle of a copy leaves a hidden file of MLflow's
    names = {path.name for path in run.artifacts.iterdir() if path.name[0] != "."}
    expected = {"candidate.yaml", "outcome.json"}
    if outcome.state == "complete":
        expected |= {"curve.csv", "layers.csv", "model.safetensors"}
    assert expected <= names
    for name in names:
        assert (run.artifacts / name).read_bytes() == (
            left.folder(frozen.number) / name
        ).read_bytes()
    candidate = yaml.safe_load((left.folder(frozen.number) / "candidate.yaml").read_text())
    assert candidate["input"] == {"channels": 1, "height": 8, "width": 8}


class Watch:
    """What the files of a study's trials held when its driver was killed."""

    def __init__(self, folder: StudyFolder) -> None:
        self.folder = folder
        self.candidates: dict[int, str] = {}
        self.curves: dict[int, list[Any]] = {}

    def look(self) -> None:
        for number in self.folder.trials():
            files = self.folder.trial(number)
            if files.candidate.exists():
                text = files.candidate.read_text()
                assert self.candidates.setdefault(number, text) == text
            if files.checkpoint.exists():
                state = checkpoint.unflatten(*checkpoint.unpack(files.checkpoint.read_bytes()))
                self.curves[number] = state["curve"]

    def check(self, left: Left) -> None:
        """Nothing lost, and no epoch before a checkpoint trained again."""
        assert self.candidates.keys() <= left.outcomes.keys()
        for number, text in self.candidates.items():
            assert left.candidates[number] == text
        for number, rows in self.curves.items():
            curve = [vars(row) for row in left.outcomes[number].curve]
            assert curve[: len(rows)] == rows


def assert_same(left: Left, expected: Left) -> None:
    """The same candidates, curves, accuracies and scores; only times differ."""
    assert left.candidates == expected.candidates
    for number, outcome in left.outcomes.items():
        other = expected.outcomes[number]
        assert (outcome.state, outcome.reason) == (other.state, other.reason)
        assert outcome.accuracy == other.accuracy
        assert outcome.scores == other.scores
        assert list(map(_without_times, outcome.curve)) == list(map(_without_times, other.curve))


def _without_times(row: Epoch) -> Epoch:
    return replace(row, seconds=0.0, ended=0.0)


def snapshot(root: Path) -> dict[str, Any]:
    """All that must not change when a finished study is run again."""
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        tables = {
            name: sorted(map(repr, database.execute(f"SELECT * FROM {name}")))
            for name in ("metrics", "params", "tags", "latest_metrics")
        }
        tables["runs"] = sorted(
            map(repr, database.execute("SELECT run_uuid, status, name, start_time FROM runs"))
        )
    files = {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted((root / "studies").rglob("*"))
        if path.is_file() and path.name not in ("clock.json", "optuna.journal")
    }
    trials = {name: optuna_trials(root, name) for name in Root(root).studies()}
    return {"tables": tables, "files": files, "optuna": trials}


@contextmanager
def in_folder(path: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(path)
    try:
        yield
    finally:
        os.chdir(before)
