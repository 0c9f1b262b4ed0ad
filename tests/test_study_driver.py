"""The driver's loop on slots that follow a script: no training, and no other process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from studies import optuna_trials, outcomes, tiny, write

from micronet_search.config.files import load_sweep
from micronet_search.engine.work import (
    Crashed,
    Ended,
    Event,
    Job,
    Left,
    Order,
    Reached,
    Stop,
    Trained,
)
from micronet_search.store.outcome import Epoch, Outcome, Result, lost
from micronet_search.store.paths import Root
from micronet_search.study import opening
from micronet_search.study.progress import Progress
from micronet_search.study.start import read_start

ENDS = "the study ends as search.stop_when says: its hypervolume has stagnated"

Script = Callable[[Job, int], list[Event]]
"""From a job, and how often it was started before, to what its slot says."""


def row(epoch: int, accuracy: float = 0.9) -> Epoch:
    return Epoch(epoch, "fit", 1.0, accuracy, 0.0, time.time())


def complete(accuracy: float = 0.9) -> Ended:
    score = {"parameters": 0.001, "operations": 0.001, "score": 0.002}
    scores = {"imt": score, "micronet2019": score}
    counts = {"parameters": 9, "nonzeros": 9, "macs": 9, "storage_bits": 72}
    now = time.time()
    found = Outcome("complete", now, now, "cpu", accuracy=accuracy, scores=scores, **counts)
    return Ended(Result(found, {"model.safetensors": b"model"}))


class Scripted:
    """An engine whose slots say what the script has for them, one after the other."""

    def __init__(self, slots: int, script: Script) -> None:
        self.slots = slots
        self.jobs: list[Job] = []
        self.orders: list[tuple[int, Order]] = []
        self.most = 0
        self._script = script
        self._said: dict[int, list[Event]] = {}

    def start(self, job: Job) -> None:
        before = sum(other.number == job.number for other in self.jobs)
        self.jobs.append(job)
        self._said[job.number] = self._script(job, before)
        self.most = max(self.most, len(self._said))

    def wait(self) -> tuple[int, Event] | None:
        number, events = next(iter(self._said.items()))
        self._said[number] = self._said.pop(number)  # whoever comes next is heard first
        return number, events.pop(0)

    def order(self, number: int, order: Order) -> None:
        self.orders.append((number, order))
        if isinstance(order, Stop):
            counts = {"curve": (row(1, 0.1),), **_counted()}
            stopped = Outcome("stopped", 0.0, 0.0, "cpu", order.reason, 0.1, **counts)
            self._said[number] = [Ended(Result(stopped, {}))]

    def pause(self) -> None:
        raise AssertionError("nobody asked for a pause")

    def release(self, number: int) -> None:
        del self._said[number]

    def close(self) -> None:
        assert not self._said


def _counted() -> dict[str, Any]:
    found = complete().result.outcome
    names = ("scores", "parameters", "nonzeros", "macs", "storage_bits")
    return {name: getattr(found, name) for name in names}


def run(
    root: Path, monkeypatch: pytest.MonkeyPatch, engine: Scripted, **changes: Any
) -> tuple[Progress, list[str]]:
    sweep = load_sweep(write(root / "tiny.yaml", tiny(**changes)))
    lines: list[str] = []
    monkeypatch.setattr(opening, "open_engine", lambda *_: (engine, "cpu"))
    progress = opening.run(sweep, Root(root), lambda _, line: lines.append(line or ""))
    return progress, lines


def test_slots_are_filled_and_the_total_is_kept(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(3, lambda job, _: [Trained(row(1), 5), Reached(row(2), b"2"), complete()])
    progress, _ = run(runs, monkeypatch, engine, search__trials=5)
    assert engine.most == 3
    assert [job.number for job in engine.jobs] == sorted(outcomes(runs, "tiny")) == [*range(5)]
    assert engine.orders == [(job.number, "go") for job in engine.jobs]
    assert progress.running == {}
    assert progress.paused is None


def test_a_crash_goes_on_from_the_checkpoint_and_ends_after_the_retries(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def script(job: Job, before: int) -> list[Event]:
        if job.number == 0:
            return [Reached(row(2), b"2"), Crashed(lost("out of luck"))]
        return [Left("node 9 left")] if job.number == 1 and before < 4 else [complete()]

    engine = Scripted(1, script)
    _, lines = run(runs, monkeypatch, engine, execution__retries=2, search__trials=2)
    tries = [job.checkpoint for job in engine.jobs if job.number == 0]
    assert tries == [None, b"2", b"2"]
    assert sum("trial 0 crashed" in line for line in lines) == 2
    assert outcomes(runs, "tiny")[0].reason == "out of luck"
    # a node that leaves is not the trial's fault, however often
    assert sum(job.number == 1 for job in engine.jobs) == 5
    assert outcomes(runs, "tiny")[1].state == "complete"


def ended(accuracies: dict[int, float]) -> Script:
    """Trials end with these accuracies, of which one above 0.5 is feasible; the others with 0.4."""
    return lambda job, _: [complete(accuracies.get(job.number, 0.4))]


STAGNANT = {"search__trials": 20, "search__stop_when": {"stagnant_trials": 3}}
GOAL = {"objectives__accuracy__at_least": 0.5}


@pytest.mark.parametrize(
    ("accuracies", "trials"),
    [
        ({}, 3),  # nothing feasible
        ({2: 0.6, 5: 0.7}, 9),
        ({number: 0.6 + number / 100 for number in range(20)}, 20),
    ],
)
def test_a_study_ends_when_its_hypervolume_stagnates(
    accuracies: dict[int, float], trials: int, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Scripted(1, ended(accuracies))
    progress, lines = run(runs, monkeypatch, engine, **STAGNANT, **GOAL)
    assert len(progress.outcomes) == trials
    assert progress.paused is None
    assert lines.count(ENDS) == (trials < 20)
    # it is finished for good, until the sweep asks for more
    again, lines = run(runs, monkeypatch, Scripted(1, ended({})), **STAGNANT, **GOAL)
    assert len(again.outcomes) == trials
    assert read_start(Root(runs).study("tiny")).finished is True
    assert lines.count(ENDS) == (trials < 20)


def test_a_stagnant_study_goes_on_where_the_sweep_says_so(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(runs, monkeypatch, Scripted(1, ended({})), **STAGNANT, **GOAL)
    later = {**STAGNANT, "search__stop_when": {"stagnant_trials": 5}}
    progress, _ = run(runs, monkeypatch, Scripted(1, ended({})), **later, **GOAL)
    assert len(progress.outcomes) == 5
    later = {"search__trials": 20, "search__stop_when": None}
    progress, lines = run(runs, monkeypatch, Scripted(1, ended({})), **later, **GOAL)
    assert len(progress.outcomes) == 20
    assert ENDS not in lines


def test_what_runs_is_finished_before_a_stagnant_study_ends(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trial 2 is the last to end, and raises the hypervolume: so three more are to come."""
    slow = [Trained(row(epoch), 5) for epoch in range(1, 5)]

    def script(job: Job, _: int) -> list[Event]:
        return [*slow, complete(0.6)] if job.number == 2 else [complete(0.4)]

    engine = Scripted(3, script)
    progress, lines = run(runs, monkeypatch, engine, **STAGNANT, **GOAL)
    late = [number for number, found in progress.outcomes.items() if found.accuracy == 0.6]
    assert late == [2]
    after = list(progress.outcomes)[list(progress.outcomes).index(2) + 1 :]
    assert len(after) >= 3
    assert lines.count(ENDS) == 1


def test_rungs_order_the_worst_to_stop(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = {0: 0.9, 1: 0.5, 2: 0.4}

    def script(job: Job, _: int) -> list[Event]:
        assert job.stops == (1,)
        return [Reached(row(1, accuracies[job.number]), b"1"), complete()]

    engine = Scripted(1, script)
    early = {"rule": "asha", "first_rung": 1, "reduction": 3}
    run(runs, monkeypatch, engine, search__early_stopping=early)
    kinds = {number: isinstance(order, Stop) for number, order in engine.orders}
    assert kinds[0] is False
    assert kinds[2] is True
    assert outcomes(runs, "tiny")[2].state == "stopped"
    points = [trial.user_attrs["rungs"]["1"][0] for trial in optuna_trials(runs, "tiny")]
    assert points == [0.9, 0.5, 0.4]
