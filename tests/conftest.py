"""Roots to run studies in: a new database of MLflow's takes seconds, so there is one to copy."""

import os
import shutil
from pathlib import Path

import hypothesis
import pytest
import studies
import torch

# the same examples in every run, however long one takes: the machine may be busy
hypothesis.settings.load_profile("ci")


@pytest.fixture(autouse=True)
def _seed() -> None:
    """No test depends on what ran before it in its process."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server of processes puts MLflow's store, should a test need one."""
    path = tmp_path_factory.mktemp("database") / "mlflow.db"
    os.environ["MICRONET_DATABASE"] = str(path)
    return path


@pytest.fixture(scope="session")
def database(_path: Path) -> Path:
    """MLflow's store with its tables and nothing in them. Not to be written to."""
    studies.start_server()
    assert _path.exists(), "the server of processes could not do what `warm` asks"
    return _path


def new_root(folder: Path, database: Path) -> Path:
    root = folder / "my runs"
    root.mkdir()
    shutil.copy(database, root / "mlflow.db")
    return root


@pytest.fixture
def runs(tmp_path: Path, database: Path) -> Path:
    """A root without studies, under a name with a space."""
    return new_root(tmp_path, database)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    """A root with the finished study `tiny`, and its sweep beside it. Not to be written to."""
    folder = tmp_path_factory.mktemp("finished")
    root = new_root(folder, database)
    sweep = studies.write(folder / "tiny.yaml", studies.tiny())
    done = studies.cli("run", sweep, "--root", root, cwd=folder)
    assert done.code == 0, done.err
    return root
