"""A study that another process runs, as its files tell it."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import studies
import torch
from studies import cli

from micronet_search.report import watch as watching
from micronet_search.store.checkpoint import DamagedCheckpointError
from micronet_search.store.files import write_json
from micronet_search.store.owner import driver_lock
from micronet_search.store.paths import Root
from micronet_search.study.progress import Progress
from micronet_search.trial import saved
from micronet_search.trial.history import History


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Root:
    """Its trial 2 has a checkpoint after the fit of three epochs, in place of its outcome."""
    root = Root(tmp_path / "runs")
    shutil.copytree(finished / "studies", root.path / "studies")
    folder = root.study("tiny").trial(2)
    outcome = studies.outcomes(finished, "tiny")[2]
    history = History(outcome.started, list(outcome.curve[:3]), {"fit": 1.0})
    network = {"a": torch.ones(3)}
    folder.checkpoint.write_bytes(saved.pack(history, 1, network, None, network))
    folder.outcome.unlink()
    return root


def test_it_follows_until_the_driver_ends(
    root: Root, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[tuple[set[int], dict[int, Any], str | None]] = []
    outcome = studies.outcomes(finished, "tiny")[2]
    lock = driver_lock(root.study("tiny"))

    def end(seconds: float) -> None:  # between the first look and the second
        write_json(root.study("tiny").trial(2).outcome, outcome.to_json())
        lock.__exit__(None, None, None)

    def observe(progress: Progress, line: str | None) -> None:
        looks.append((set(progress.outcomes), dict(progress.running), line))

    monkeypatch.setattr(watching.time, "sleep", end)
    lock.__enter__()
    watching.watch(root, "tiny", observe)
    (first, running, no_line), (last, none, line), _ = looks
    assert (first, last, none, no_line) == ({0, 1}, {0, 1, 2}, {}, None)
    (trial,) = running.values()
    row = outcome.curve[2]
    assert (trial.name, trial.epoch, trial.epochs, trial.stage) == ("trial 2", 3, 5, "fit")
    assert trial.accuracy == row.accuracy
    assert line is not None
    assert line.startswith(f"trial 2 complete: accuracy {outcome.accuracy:.4f}, score ")
    assert ("feasible" in line) == (outcome.accuracy >= 0.2)


def test_a_trial_without_a_checkpoint_and_a_damaged_one(root: Root) -> None:
    folder, view = root.study("tiny").trial(2), watching.read(root, "tiny")
    content = folder.checkpoint.read_bytes()
    for damaged in (b"", content[:100], content.replace(b"epoch", b"epook")):
        folder.checkpoint.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError):
            watching.running(view)
    folder.checkpoint.unlink()
    (trial,) = watching.running(view).values()
    assert (trial.epoch, trial.epochs, trial.stage, trial.accuracy) == (0, 5, None, None)


def test_a_study_that_does_not_run_is_shown_once(finished: Path, tmp_path: Path) -> None:
    before = studies.snapshot(finished)
    done = cli("watch", "tiny", "--root", finished, cwd=tmp_path)
    assert done.code == 0, done
    assert done.out.splitlines()[1].split()[:3] == ["tiny", "finished", "3/3"]
    assert studies.snapshot(finished) == before
