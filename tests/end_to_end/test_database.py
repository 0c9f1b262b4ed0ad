"""MLflow's own database: two drivers create it, others lock it, and the root is moved."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from studies import Command, Done, Setting, assert_whole, cli, read, tiny, write

SOON = Setting("micronet_search.tracking.database:PATIENCE", 0.1)


def test_two_studies_create_the_database_at_once(tmp_path: Path) -> None:
    root = tmp_path / "runs"
    sweeps = [write(tmp_path / f"{name}.yaml", tiny(name, search__trials=1)) for name in "ab"]
    commands = [Command("run", sweep, "--root", root, cwd=tmp_path) for sweep in sweeps]
    for command in commands:
        done = command.wait()
        assert done.code == 0, done
    for name in "ab":
        assert_whole(read(root, name), trials=1)


def test_a_locked_database_is_waited_for(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("locked", search__trials=2))
    with closing(sqlite3.connect(runs / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=SOON).wait()
        assert done.code == 0, done
        assert done.out.count("database is locked") == 2
        assert done.out.count("trials go on, and what is to be recorded waits") == 1
        assert "the records of 2 trials wait beside them: `micronet-search sync locked`" in done.out
    assert cli("sync", "locked", "--root", runs, cwd=tmp_path).code == 0
    assert_whole(read(runs, "locked"), trials=2)


def test_a_password_stays_in_the_sweep(tmp_path: Path, runs: Path) -> None:
    def run(password: str) -> Done:
        store = f"sqlite:///{runs}/mlflow.db?password={password}"
        tree = tiny("secret", search__trials=1, tracking__mlflow=store)
        sweep = write(tmp_path / "sweep.yaml", tree)
        return Command("run", sweep, "--root", runs, cwd=tmp_path, kill=SOON).wait()

    def holding(password: str) -> set[str]:
        files = (path for path in runs.rglob("*") if path.is_file())
        return {path.name for path in files if password.encode() in path.read_bytes()}

    stored = runs / "studies/secret/sweep.yaml"
    done = run("mellon-42")
    assert done.code == 0, done
    assert holding("mellon-42") == {"sweep.yaml"}
    assert "mellon-42" in stored.read_text()
    assert stored.stat().st_mode & 0o777 == 0o600
    (copy,) = runs.glob("artifacts/secret/*/artifacts/sweep.yaml")
    assert copy.read_text() == stored.read_text().replace("mellon-42", "***")

    with closing(sqlite3.connect(runs / "mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        done = run("changed-43")
    assert done.code == 0, done
    assert "?password=*** failed: database is locked" in done.out
    assert not any(password in f"{done}" for password in ("mellon-42", "changed-43"))
    assert holding("changed-43") == {"sweep.yaml"}
    assert cli("sync", "secret", "--root", runs, cwd=tmp_path).code == 0


@pytest.mark.parametrize("field", ["optuna", "mlflow"])
def test_an_error_does_not_tell_a_password(tmp_path: Path, runs: Path, field: str) -> None:
    tree = tiny("secret", **{f"tracking__{field}": "postgresql://ann:a@b:mell/on-42@localhost/db"})
    sweep = write(tmp_path / "sweep.yaml", tree)
    error = cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert not any(part in error for part in ("mell", "on-42"))


def test_artifacts_follow_a_root_that_was_moved(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("moved", search__trials=1))
    elsewhere = (tmp_path / "elsewhere/artifacts/apart").as_uri()
    apart = write(
        tmp_path / "apart.yaml", tiny("apart", search__trials=1, tracking__artifacts=elsewhere)
    )
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert cli("run", apart, "--root", runs, cwd=tmp_path).code == 0
    runs = runs.rename(tmp_path / "other runs")
    done = cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "moved")
    assert_whole(left, trials=2)
    for run in (left.parent, *left.children.values()):
        assert run.artifacts.is_relative_to(runs)
    assert read(runs, "apart").parent.artifacts.is_relative_to(tmp_path / "elsewhere")
    assert not (tmp_path / "my runs").exists()


def test_a_root_that_mlflow_cannot_name_is_refused(tmp_path: Path, database: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("odd", search__trials=1))
    for name, found in (("which?", "'?'"), ("50%41", "'%41'")):
        error = cli("run", sweep, "--root", tmp_path / name, cwd=tmp_path).error
        assert f"found {found} in {tmp_path / name}/mlflow.db, expected a root without" in error
    root = tmp_path / "a#1 50% [b]"
    root.mkdir()
    shutil.copy(database, root / "mlflow.db")
    assert cli("run", sweep, "--root", root, cwd=tmp_path).code == 0
    assert read(root, "odd").parent.status == "FINISHED"
    assert list(root.glob("artifacts/odd/*/artifacts/front.csv"))
    expected = {"which?", "50%41", root.name, "sweep.yaml"}
    assert {path.name for path in tmp_path.iterdir()} == expected
