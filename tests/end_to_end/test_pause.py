"""Ctrl-C, once and twice, and the hours."""

import json
import signal
from pathlib import Path

import pytest
import studies
from studies import Command, Hold, assert_same, assert_whole, cli, read, tiny, write

EPOCHS = 5
ALL_EPOCHS = EPOCHS + 2
"""With those of pruning and of quantization."""


def long() -> dict:
    """Two trials; what comes after a pause is to be the same as without one."""
    return tiny("paused", search__trials=2, candidate__training__epochs=EPOCHS)


def curve(root: Path, number: int) -> list:
    path = root / "studies/paused/trials" / f"{number:04d}" / "outcome.json"
    return json.loads(path.read_text())["curve"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, database: Path) -> studies.Left:
    from conftest import new_root

    folder = tmp_path_factory.mktemp("uninterrupted")
    root = new_root(folder, database)
    sweep = write(folder / "sweep.yaml", long())
    assert cli("run", sweep, "--root", root, cwd=folder).code == 0
    return read(root, "paused")


def run_until_the_second_trial_runs(folder: Path, runs: Path) -> Command:
    """It waits for the file `go` in the second epoch of that trial, whatever time passes."""
    sweep = write(folder / "sweep.yaml", long())
    hold = Hold("micronet_search.trial.trial:Trial.advance", ALL_EPOCHS + 2, folder / "go")
    command = Command("run", sweep, "--root", runs, cwd=folder, kill=hold)
    assert command.until((runs / "studies/paused/trials/0001/candidate.yaml").exists)
    return command


def test_ctrl_c_pauses_after_the_epoch(
    tmp_path: Path, runs: Path, uninterrupted: studies.Left
) -> None:
    command = run_until_the_second_trial_runs(tmp_path, runs)
    command.send(signal.SIGINT)
    (tmp_path / "go").touch()
    done = command.wait()
    assert done.code == 130, done
    assert done.err == ""
    assert "pausing after this epoch" in done.out
    assert "trial 1 paused after epoch" in done.out
    assert "Traceback" not in done.out
    left = read(runs, "paused")
    assert left.parent.status == "SCHEDULED"
    assert {n: run.status for n, run in left.children.items()} == {0: "FINISHED"}
    assert not (runs / "studies/paused/driver.json").exists()

    checkpoint = runs / "studies/paused/trials/0001/checkpoint.safetensors"
    saved_at = checkpoint.stat().st_mtime
    status = cli("status", "paused", "--root", runs, cwd=tmp_path)
    assert status.code == 0
    assert "unfinished" in status.out
    assert cli("run", tmp_path / "sweep.yaml", "--root", runs, cwd=tmp_path).code == 0
    left = read(runs, "paused")
    assert_whole(left, trials=2)
    assert_same(left, uninterrupted)
    ended = [row["ended"] for row in curve(runs, 1)]
    assert ended == sorted(ended)
    assert ended[0] < saved_at < ended[-1]


def test_ctrl_c_twice_leaves_at_once(
    tmp_path: Path, runs: Path, uninterrupted: studies.Left
) -> None:
    command = run_until_the_second_trial_runs(tmp_path, runs)
    command.send(signal.SIGINT)
    assert command.until(lambda: "pausing after this epoch" in command.out)
    command.send(signal.SIGINT)
    done = command.wait()
    assert done.code == 130, done
    assert "Traceback" not in done.err
    assert done.err.count("\n") <= 1
    assert read(runs, "paused").parent.status == "SCHEDULED"
    assert cli("run", tmp_path / "sweep.yaml", "--root", runs, cwd=tmp_path).code == 0
    left = read(runs, "paused")
    assert_whole(left, trials=2)
    assert_same(left, uninterrupted)


@pytest.mark.parametrize("until", ["driver.json", "optuna.journal", "study.json", "sweep.yaml"])
def test_ctrl_c_while_the_study_opens(tmp_path: Path, runs: Path, until: str) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("paused", search__trials=studies.ENDLESS))
    command = Command("run", sweep, "--root", runs, cwd=tmp_path)
    assert command.until((runs / "studies/paused" / until).exists)
    command.send(signal.SIGINT)
    done = command.wait()
    assert done.code == 130, done
    assert done.err.count("\n") <= 1
    trials = len(studies.outcomes(runs, "paused")) + 1
    assert cli("run", sweep, "--root", runs, "--trials", trials, cwd=tmp_path).code == 0
    assert_whole(read(runs, "paused"), trials=trials)


def test_hours_pause_a_study_and_more_of_them_go_on(
    tmp_path: Path, runs: Path, uninterrupted: studies.Left
) -> None:
    sweep = write(tmp_path / "sweep.yaml", long())
    done = cli("run", sweep, "--root", runs, "--hours", 1e-6, cwd=tmp_path)
    assert done.code == 0, done
    assert "hours are used up" in done.out
    first = (runs / "studies/paused/trials/0000/candidate.yaml").exists()
    assert read(runs, "paused").parent.status == "SCHEDULED"

    # the clock runs on over the starts: there is nothing left of so few hours
    before = json.loads((runs / "studies/paused/clock.json").read_text())["seconds"]
    done = cli("run", sweep, "--root", runs, "--hours", 1e-6, cwd=tmp_path)
    assert done.code == 0, done
    after = json.loads((runs / "studies/paused/clock.json").read_text())["seconds"]
    assert after >= before
    assert (runs / "studies/paused/trials/0000/candidate.yaml").exists() == first

    assert cli("run", sweep, "--root", runs, "--hours", 1, cwd=tmp_path).code == 0
    left = read(runs, "paused")
    assert_whole(left, trials=2)
    third = json.loads((runs / "studies/paused/clock.json").read_text())["seconds"]
    assert third > after
    assert left.candidates[0] == uninterrupted.candidates[0]
