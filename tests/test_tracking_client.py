import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking import client
from micronet_search.tracking.client import (
    TrackingError,
    artifact_location,
    connect,
    quieten,
    tracking_uri,
)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_the_sweep_comes_first_then_the_environment_then_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = Root(Path("runs"))
    assert tracking_uri(Tracking(), root) == f"sqlite:///{tmp_path}/runs/mlflow.db"
    os.environ["MLFLOW_TRACKING_URI"] = "http://there"
    assert tracking_uri(Tracking(), root) == "http://there"
    assert tracking_uri(Tracking(mlflow="http://here"), root) == "http://here"


@pytest.mark.parametrize(
    ("tracking", "expected"),
    [
        ({}, "file://{root}/artifacts/a"),
        ({"artifacts": "s3://bucket"}, "s3://bucket"),
        ({"mlflow": "postgresql://host/db"}, "file://{root}/artifacts/a"),
        ({"mlflow": "http://host"}, None),
        ({"mlflow": "http://host", "artifacts": "s3://bucket"}, "s3://bucket"),
    ],
)
def test_artifacts_lie_under_the_root_unless_a_server_keeps_them(
    tmp_path: Path, tracking: dict[str, str], expected: str | None
) -> None:
    found = artifact_location(Tracking(**tracking), Root(tmp_path), "a")
    assert found == (None if expected is None else expected.format(root=tmp_path))


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def silent_port() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def refused(uri: str) -> str:
    """MLflow would try again for minutes, with pauses between."""

    def wait(_: float) -> None:
        raise AssertionError("it is tried again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", wait)
        with pytest.raises(TrackingError) as error:
            connect(uri)
    message = str(error.value)
    assert "\n" not in message
    assert "expected a tracking server or a database that answers" in message
    return message


def test_a_server_that_is_not_there_is_noticed(closed_port: int) -> None:
    message = refused(f"http://user:secret@127.0.0.1:{closed_port}")
    assert f"http://127.0.0.1:{closed_port} failed: " in message
    assert "Connection refused" in message
    assert "secret" not in message
    assert "MLFLOW_HTTP_REQUEST_TIMEOUT" not in os.environ


def test_a_server_that_is_silent_is_noticed(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(client._PATIENCE, "MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    assert "timed out" in refused(f"http://127.0.0.1:{silent_port}")


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("sqlite:///{folder}/missing/mlflow.db", "unable to open database file"),
        ("sqlite:///{folder}/damaged.db", "file is not a database"),
        ("file://{folder}/mlruns", "filesystem tracking backend"),
        ("nosuch://host/db", "nosuch"),
    ],
)
def test_a_database_that_cannot_be_used_is_noticed(tmp_path: Path, uri: str, reason: str) -> None:
    (tmp_path / "damaged.db").write_bytes(b"no database" * 1000)
    assert reason in refused(uri.format(folder=tmp_path))
    assert os.listdir(tmp_path) == ["damaged.db"]


def test_mlflow_is_quiet_and_sends_nothing() -> None:
    quieten()
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"
    assert os.environ["MLFLOW_LOGGING_LEVEL"] == "WARNING"


@pytest.mark.parametrize("name", ["MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK"])
def test_what_the_user_sets_stands(name: str) -> None:
    before = logging.getLogger("mlflow").level
    given = {name: "false", "MLFLOW_LOGGING_LEVEL": "DEBUG"}
    os.environ.update(given)
    quieten()

    assert given.items() <= os.environ.items()
    assert ("MLFLOW_DISABLE_TELEMETRY" in os.environ) == (name == "MLFLOW_DISABLE_TELEMETRY")
    assert logging.getLogger("mlflow").level == before


def test_importing_the_recorder_imports_neither_mlflow_nor_matplotlib() -> None:
    code = (
        "import sys, micronet_search.tracking.recorder, micronet_search.tracking.ui\n"
        "print([name for name in ('mlflow', 'matplotlib', 'sqlalchemy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
