"""Which checkpoints of trials that have ended are kept, and how long."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import optuna
import pytest

from micronet_search.config.sweep import Sweep
from micronet_search.store.files import write_bytes, write_json
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.ledger import Ledger
from micronet_search.study.progress import Progress
from micronet_search.study.projection import Projection

NOW = 1_700_000_000.0
HOUR = 3600.0


class Silent:
    """A projection of which nothing is asked here."""

    def update(self) -> None:
        """Records nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study that was killed before any checkpoint of a trial that had ended was removed."""
    folder = Root(tmp_path).study("study")
    ended: list[tuple[Any, float]] = [
        ("complete", NOW),
        ("stopped", NOW - 2 * HOUR),
        ("stopped", NOW - HOUR / 2),
        ("failed", NOW - 9 * HOUR),
    ]
    scores = {"imt": {"parameters": 0.1, "operations": 0.1, "score": 0.2}}
    counts = {"parameters": 9, "nonzeros": 9, "macs": 9, "storage_bits": 72}
    judged: dict[str, Any] = {"accuracy": 0.9, "scores": scores, **counts}
    for number, (state, at) in enumerate(ended):
        outcome = Outcome(state, at - 1, at, "cpu", **({} if state == "failed" else judged))
        write_json(folder.trial(number).outcome, outcome.to_json())
        write_bytes(folder.trial(number).checkpoint, b"state")
    write_bytes(folder.trial(4).checkpoint, b"of a trial that goes on")
    return folder


def resumed(folder: StudyFolder, keep_hours: float | None) -> Ledger:
    """The ledger of a driver that has just found the study again."""
    tree = {
        "name": "study",
        "dataset": {"name": "digits"},
        "objectives": {"accuracy": {"at_least": 0.5}, "score": {"at_most": 1.0}},
        "candidate": {},
        "search": {"trials": 9, "early_stopping": {"rule": "off", "keep_hours": keep_hours}},
    }
    study = optuna.create_study(directions=["maximize", "minimize"])
    projection = cast(Projection, Silent())
    ledger = Ledger(Sweep.model_validate(tree), folder, study, projection, Progress(9))
    assert [ledger.replay(number, None) for number in range(5)] == [True] * 4 + [False]
    ledger.catch_up()
    return ledger


def kept(folder: StudyFolder) -> list[int]:
    return [number for number in range(5) if folder.trial(number).checkpoint.exists()]


def test_a_resume_removes_what_is_due_and_the_rest_in_its_time(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    ledger = resumed(folder, keep_hours=1.0)
    assert kept(folder) == [2, 3, 4]
    monkeypatch.setattr(time, "time", lambda: NOW + HOUR / 2 - 1)
    ledger.catch_up()
    assert kept(folder) == [2, 3, 4]
    monkeypatch.setattr(time, "time", lambda: NOW + HOUR / 2)
    ledger.catch_up()
    assert kept(folder) == [3, 4]


def test_without_a_limit_the_checkpoints_of_stopped_trials_stay(folder: StudyFolder) -> None:
    resumed(folder, keep_hours=None)
    assert kept(folder) == [1, 2, 3, 4]


def test_a_checkpoint_that_is_removed_is_not_looked_for_again(
    folder: StudyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = resumed(folder, keep_hours=1.0)
    assert kept(folder) == [3, 4]
    removed: list[Path] = []
    monkeypatch.setattr(Path, "unlink", lambda path, **_: removed.append(path))
    ledger.catch_up()
    assert removed == []
