"""MLflow's record of a study after someone has tampered with it, or with the study's folder."""

import json
import re
import shutil
import socket
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import studies
from mlflow import MlflowClient
from studies import Command, Done, Hold, assert_whole, cli, read, tiny, write

LONGEST = "größer: als/1 "
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


@pytest.fixture
def gone() -> dict[str, str]:
    """An environment that names a tracking server which is not there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{probe.getsockname()[1]}"}


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


def test_a_run_that_is_deleted_in_mlflow_comes_back_while_the_study_goes_on(
    tmp_path: Path, runs: Path, client: MlflowClient
) -> None:
    sweep = write(tmp_path / "tiny.yaml", tiny(search__trials=4))
    hold = Hold("micronet_search.study.driver:Driver._start", 3, tmp_path / "go")
    command = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=hold)
    assert command.until(hold.reached.exists)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.study LIKE '%'")
    client.delete_run(parent.info.run_id)
    hold.until.touch()
    done = command.wait()
    assert done.code == 0, done
    assert_whole(read(runs, "tiny"), trials=4)


DAMAGE = {
    "cut short": lambda text: text[: len(text) // 2],
    "other keys": lambda text: '{"a": 1}',
    "other values": lambda text: json.dumps({key: [1] for key in json.loads(text)}),
}


def test_a_damaged_start_is_named_by_sync_and_made_anew_by_run(
    tmp_path: Path, runs: Path, run: Callable[..., Done], gone: dict[str, str]
) -> None:
    assert run(1, environment=gone).code == 0
    path = runs / "studies/tiny/start.json"
    whole = path.read_text()
    for damage in DAMAGE.values():
        path.write_text(damage(whole))
        found = cli("sync", "tiny", "--root", runs, cwd=tmp_path).error
        assert found.startswith(f"{path} is damaged, expected "), found

    # MLflow does not answer, and then it does
    for environment in (gone, {}):
        path.write_text("")
        assert run(2, environment=environment).code == 0
    assert_whole(read(runs, "tiny"), trials=2)


def test_a_damaged_identity_is_named_and_the_study_recorded_anew_without_it(
    tmp_path: Path, runs: Path, run: Callable[..., Done], client: MlflowClient
) -> None:
    assert run(1).code == 0
    old = read(runs, "tiny").parent.id
    identity = runs / "studies/tiny/study.json"
    whole = identity.read_text()
    for command, damage in zip(("run", "sync", "run"), DAMAGE.values(), strict=True):
        identity.write_text(damage(whole))
        done = run(2) if command == "run" else cli("sync", "tiny", "--root", runs, cwd=tmp_path)
        assert done.error.startswith(f"{identity} is damaged, expected "), done
    assert len(studies.outcomes(runs, "tiny")) == 1

    identity.unlink()
    assert run(2).code == 0
    assert client.get_run(old).info.run_name == "tiny (superseded)"
    recorded = client.search_runs([client.get_run(old).info.experiment_id], "tags.trial LIKE '%'")
    parents = [child.data.tags["mlflow.parentRunId"] for child in recorded]
    assert parents.count(old) == 1
    assert len(parents) == 1 + 2


def test_a_branch_whose_name_mlflow_does_not_take_is_refused_by_check(tmp_path: Path) -> None:
    for name in ("res+se", "a,b", LONGEST + "x"):
        sweep = write(tmp_path / "sweep.yaml", tiny(candidate__pruning=pruning(name)))
        found = cli("check", sweep, cwd=tmp_path).error
        assert re.match(rf"{sweep}:\d+:\d+: candidate\.pruning\.one_of\.", found), found
        assert re.search("expected (letters, digits, spaces|at most 250)", found), found
