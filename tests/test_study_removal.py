"""Deleting a study: what goes, what stays, and what a crash in between leaves."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest
import yaml
from studies import cli

from micronet_search.store.files import write_json
from micronet_search.store.owner import driver_lock
from micronet_search.store.paths import Root
from micronet_search.study import removal


@pytest.fixture
def root(finished: Path, tmp_path: Path) -> Root:
    """A root with the study `tiny`, and MLflow's records of it."""
    (tmp_path / "runs").mkdir()
    shutil.copy(finished / "mlflow.db", tmp_path / "runs")
    shutil.copytree(finished / "studies", tmp_path / "runs/studies")
    (tmp_path / "runs/teachers/0a1b").mkdir(parents=True)
    return Root(tmp_path / "runs")


def stage(root: Root, name: str = "tiny") -> str:
    """What MLflow has of an experiment: active or deleted."""
    query = "SELECT lifecycle_stage FROM experiments WHERE name = ?"
    with closing(sqlite3.connect(root.mlflow_db)) as database:
        return str(database.execute(query, (name,)).fetchone()[0])


def test_a_study_is_deleted(root: Root, tmp_path: Path) -> None:
    asked = cli("delete", "tiny", "--root", root.path, cwd=tmp_path)
    expected = "found no terminal to ask in, expected --yes to delete tiny, with 3 trials"
    assert asked.error == expected
    with driver_lock(root.study("tiny")):
        refused = cli("delete", "tiny", "--yes", "--root", root.path, cwd=tmp_path)
        assert refused.error.startswith("the study tiny is being run by process")
    assert root.studies() == ["tiny"]
    assert stage(root) == "active"

    done = cli("delete", "tiny", "--yes", "--root", root.path, cwd=tmp_path)
    assert (done.code, done.out) == (0, "tiny is deleted\n"), done
    assert stage(root) == "deleted"
    assert list((root.path / "studies").iterdir()) == []
    assert (root.path / "teachers/0a1b").is_dir()
    again = cli("delete", "tiny", "--yes", "--root", root.path, cwd=tmp_path)
    assert again.error.startswith("no study tiny under")


def test_an_interrupted_delete_is_finished(root: Root, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", crash)
        with pytest.raises(KeyboardInterrupt):
            removal.delete(root, "tiny", keep_records=True)
    assert root.studies() == []
    assert (root.path / "studies/.tiny.deleted").is_dir()
    removal.delete(root, "tiny")
    assert list((root.path / "studies").iterdir()) == []


def test_without_its_records_nothing_is_deleted(root: Root, tmp_path: Path) -> None:
    before = sorted(root.path.rglob("*"))
    root.mlflow_db.write_bytes(b"no database" * 1000)
    done = cli("delete", "tiny", "--yes", "--root", root.path, cwd=tmp_path)
    assert "nothing is deleted, and --keep-records deletes the folder alone" in done.error
    assert sorted(root.path.rglob("*")) == before
    removal.delete(root, "tiny", keep_records=True)
    assert root.studies() == []


def test_a_database_of_optuna_s_and_a_study_that_needs_it(root: Root, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'optuna.db'}"
    for name in ("tiny", "other"):
        optuna.create_study(study_name=name, storage=url)
    folder, needs = root.study("tiny"), root.study("needs")
    tree = yaml.safe_load(folder.sweep.read_text())
    tree["tracking"]["optuna"] = url
    folder.sweep.write_text(yaml.safe_dump(tree))
    needs.path.mkdir()
    tree |= {"name": "needs", "search": tree["search"] | {"start_from": {"study": "tiny"}}}
    needs.sweep.write_text(yaml.safe_dump(tree))
    delete = ("delete", "tiny", "--yes", "--root", root.path)
    assert "the study needs is not finished" in cli(*delete, cwd=tmp_path).error
    write_json(needs.start, {"environment": None, "finished": True})
    assert cli(*delete, cwd=tmp_path).code == 0
    assert optuna.get_all_study_names(url) == ["other"]
    assert root.studies() == ["needs"]
