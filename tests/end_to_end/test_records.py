"""MLflow's record of a study after someone has tampered with it, or with the study's folder."""

import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import studies
from mlflow import MlflowClient
from studies import Done, assert_whole, cli, read, tiny, write

LONGEST = "größer als 1 "
LONGEST += "_" * (250 - len(f"pruning.{LONGEST}.sparsity"))
"""The longest name of a branch that MLflow takes, and all sorts of characters."""


def pruning(name: str) -> dict[str, Any]:
    return {"one_of": {name: {"sparsity": {"low": 0.2, "high": 0.8, "step": 0.1}, "epochs": 1}}}


@pytest.fixture
def run(tmp_path: Path, runs: Path) -> Callable[..., Done]:
    """Runs the study `tiny` up to a number of trials."""
    sweep = write(tmp_path / "tiny.yaml", tiny(candidate__pruning=pruning(LONGEST)))
    return lambda trials, **options: cli(
        "run", sweep, "--root", runs, "--trials", trials, cwd=tmp_path, **options
    )


@pytest.fixture
def client(runs: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{runs}/mlflow.db")


def test_sync_leaves_the_status_of_a_study_to_its_driver(
    tmp_path: Path, runs: Path, run: Callable[..., Done], database: Path
) -> None:
    assert run(1).code == 0
    before = studies.snapshot(runs)
    assert read(runs, "tiny").parent.status == "FINISHED"
    assert cli("sync", "tiny", "--root", runs, cwd=tmp_path).code == 0
    assert studies.snapshot(runs) == before

    # nothing runs that MLflow has never heard of, either
    shutil.copy(database, runs / "mlflow.db")
    assert cli("sync", "tiny", "--root", runs, cwd=tmp_path).code == 0
    assert read(runs, "tiny").parent.status != "RUNNING"
    assert run(1).code == 0
    assert_whole(read(runs, "tiny"), trials=1)


def test_a_study_that_begins_anew_takes_the_place_of_the_removed_one(
    runs: Path, run: Callable[..., Done], client: MlflowClient
) -> None:
    def parents() -> dict[str, Any]:
        found = client.search_runs([experiment], "tags.study LIKE '%'")
        return {parent.info.run_id: parent for parent in found}

    def front() -> set[str]:
        found = client.search_runs([experiment], "tags.front = 'true'")
        return {child.data.tags["mlflow.parentRunId"] for child in found}

    assert run(1).code == 0
    old = read(runs, "tiny").parent.id
    experiment = client.get_run(old).info.experiment_id
    client.update_run(old, "RUNNING")  # its driver was killed
    folder = runs / "studies/tiny"
    folder.rename(runs / "backup")
    assert run(1).code == 0

    (new,) = parents().keys() - {old}
    superseded = parents()[old]
    assert superseded.info.status == "KILLED"
    assert superseded.info.run_name == "tiny (superseded)"
    assert superseded.data.tags["superseded"] == "true"
    assert parents()[new].info.status == "FINISHED"
    assert parents()[new].info.run_name == "tiny"
    assert "superseded" not in parents()[new].data.tags
    assert front() == {new}

    # the folder decides, so one that comes back from a backup is the study's again
    shutil.rmtree(folder)
    (runs / "backup").rename(folder)
    for _ in range(2):
        assert run(1).code == 0
        assert parents()[old].info.run_name == "tiny"
        assert parents()[old].info.status == "FINISHED"
        assert "superseded" not in parents()[old].data.tags
        assert parents()[new].info.run_name == "tiny (superseded)"
        assert parents()[new].info.status == "FINISHED"
        assert front() == {old}


def test_tags_that_were_edited_in_mlflow_are_set_right(
    runs: Path, run: Callable[..., Done], client: MlflowClient
) -> None:
    assert run(3).code == 0
    before = read(runs, "tiny")
    ids = [before.children[number].id for number in range(3)]
    client.set_tag(ids[0], "trial", "2")
    client.delete_tag(ids[1], "trial")
    client.delete_tag(ids[1], "front")
    client.set_tag(ids[2], "trial", "no number")
    client.set_tag(ids[2], "front", "yes")
    note = client.create_run(  # a run of the user's own, among the trials
        client.get_run(ids[0]).info.experiment_id,
        tags={"mlflow.parentRunId": before.parent.id},
        run_name="notes",
    ).info.run_id

    done = run(4)
    assert done.code == 0, done
    assert client.get_run(note).data.tags.keys().isdisjoint({"trial", "front"})
    with closing(sqlite3.connect(runs / "mlflow.db")) as database, database:
        for table in ("tags", "runs"):
            database.execute(f"DELETE FROM {table} WHERE run_uuid = ?", [note])
    after = read(runs, "tiny")
    assert_whole(after, trials=4)
    assert [after.children[number].id for number in range(3)] == ids


def test_a_branch_whose_name_mlflow_does_not_take_is_refused_by_check(tmp_path: Path) -> None:
    for name in ("res+se", "a,b", LONGEST + "x"):
        sweep = write(tmp_path / "sweep.yaml", tiny(candidate__pruning=pruning(name)))
        found = cli("check", sweep, cwd=tmp_path).error
        assert re.match(rf"{sweep}:\d+:\d+: candidate\.pruning\.one_of\.", found), found
        assert re.search("expected (letters, digits, spaces, - and _|at most 250)", found), found
