"""SIGKILL at any moment, and a resume that repairs what is left."""

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import studies
from studies import Command, Kill, Watch, assert_judged, assert_whole, cli, read, tiny, write

DRIVER = "micronet_search.study.driver:Driver."
RUNGS = "micronet_search.study.rungs:Rungs."
LEDGER = "micronet_search.study.ledger:Ledger."
PROJECTION = "micronet_search.study.projection:Projection."
MLFLOW = "mlflow:MlflowClient."
MOASHA = {"rule": "asha", "first_rung": 1, "reduction": 2}


POINTS = [
    Kill("micronet_search.tracking.recorder:Recorder.__init__", "after"),
    Kill(DRIVER + "run", "before"),
    Kill("optuna:Study.ask", "after"),
    Kill("optuna.trial:Trial.set_user_attr", "before"),
    Kill("optuna.trial:Trial.set_user_attr", "after"),
    Kill(DRIVER + "_start", "after"),
    Kill(RUNGS + "order", "before"),
    Kill(RUNGS + "order", "after"),
    Kill(RUNGS + "order", "after", 2),
    Kill("micronet_search.study.driver:write_bytes", "after", 2),
    Kill(LEDGER + "enter", "before"),
    Kill("micronet_search.store.outcome:write_bytes", "after", 2),
    Kill(LEDGER + "_tell", "before"),
    Kill("optuna.trial:Trial.set_constraint", "after"),
    Kill("optuna:Study.tell", "before"),
    Kill("optuna:Study.tell", "after"),
    Kill("micronet_search.study.start:write_json", "after"),
    Kill("micronet_search.store.outcome:write_json", "before"),
    Kill("micronet_search.store.outcome:write_json", "after"),
    Kill(PROJECTION + "_project", "before", 2),
    Kill(PROJECTION + "_show", "before", 2),
    Kill(MLFLOW + "create_run", "after"),
    Kill(MLFLOW + "log_batch", "after", 2),
    Kill(MLFLOW + "log_artifact", "after", 3),
    Kill(MLFLOW + "set_terminated", "before"),
    Kill(MLFLOW + "set_terminated", "after"),
    Kill(MLFLOW + "log_text", "before"),
    Kill(MLFLOW + "log_figure", "after"),
    Kill(LEDGER + "_tidy", "before"),
    Kill("micronet_search.study.clock:Clock.save", "before", 2),
]


def test_kills_between_any_two_steps(tmp_path: Path, runs: Path) -> None:
    """Each start of one study dies at another point; the last one finishes it."""
    total = 12
    sweep = write(tmp_path / "sweep.yaml", tiny("killed", search__early_stopping=MOASHA))
    watch = Watch(studies.Root(runs).study("killed"))
    died = 0
    for kill in POINTS:
        command = Command("run", sweep, "--root", runs, "--trials", total, cwd=tmp_path, kill=kill)
        done = command.wait()
        assert done.code in (0, -signal.SIGKILL), (kill, done)
        died += done.code != 0
        watch.look()
    assert died >= len(POINTS) - 3, died
    done = cli("run", sweep, "--root", runs, "--trials", total, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "killed")
    assert_whole(left, trials=total)
    assert_judged(left)
    watch.check(left)


def test_kills_from_outside(tmp_path: Path, runs: Path) -> None:
    """The moments are files that appear, and seeded times."""
    sweep = write(tmp_path / "sweep.yaml", tiny("killed", search__trials=studies.ENDLESS))
    folder = studies.Root(runs).study("killed")
    artifacts = runs / "artifacts" / "killed"
    watch = Watch(folder)
    moments: list[Callable[[], Any]] = [
        folder.journal.exists,
        folder.trial(0).candidate.exists,
        # it goes at the end of its trial, which may come before this is looked at
        lambda: folder.trial(0).checkpoint.exists() or folder.trial(0).outcome.exists(),
        folder.trial(0).model.exists,
        folder.trial(0).outcome.exists,
        lambda: len(list(artifacts.glob("*/artifacts/outcome.json"))) >= 1,
        folder.trial(1).outcome.exists,
    ]
    for moment in moments:
        command = Command("run", sweep, "--root", runs, cwd=tmp_path)
        assert command.until(moment)
        command.send(signal.SIGKILL)
        assert command.wait().code == -signal.SIGKILL
        watch.look()
    pick = random.Random(0)
    for _ in range(3):
        command = Command("run", sweep, "--root", runs, cwd=tmp_path)
        assert command.until((folder.path / "driver.json").exists)
        with pytest.raises(TimeoutError):
            command.wait(pick.uniform(0.1, 1.2))
        watch.look()
    total = len(studies.outcomes(runs, "killed")) + 2
    done = cli("run", sweep, "--root", runs, "--trials", total, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "killed")
    assert_whole(left, trials=total)
    watch.check(left)


def test_a_journal_cut_in_its_last_line_is_repaired(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("cut", search__trials=2))
    kill = Kill("optuna:Study.tell", "before")
    assert Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill).wait().code != 0
    journal = runs / "studies/cut/optuna.journal"
    content = journal.read_bytes()
    assert content.endswith(b"\n")
    journal.write_bytes(content[:-9])
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert_whole(read(runs, "cut"), trials=2)


def test_a_damaged_journal_is_named(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("damaged", search__trials=1))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    journal = runs / "studies/damaged/optuna.journal"
    content = journal.read_bytes()
    journal.write_bytes(b"no journal\n" + content)
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert "optuna.journal: expected a storage" in done.error
    journal.write_bytes(content)
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    # trials without their journal are not to be overwritten
    journal.unlink()
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert "does not know" in done.error
    assert (runs / "studies/damaged/trials/0000/outcome.json").exists()
