"""A tracking server that is gone, answers 500, or dies: nothing is lost, nothing doubled."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import requests
import studies
from optuna.exceptions import StorageInternalError
from studies import Command, Fault, Hold, Kill, Setting, assert_whole, cli, read, tiny, write

from micronet_search.tracking.client import TrackingError, connect, reported

SOON = Setting("micronet_search.study.projection:PATIENCE", 0.2)
PATIENT = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "300"}
"""A server that answers late, on a busy machine, is none that is gone: that one refuses at once."""
START = "micronet_search.study.driver:Driver._start"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def mlflow_server(root: Path, port: int) -> Iterator[None]:
    """MLflow's own server, killed at the end as by a crash of its machine."""
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)),
        *("--backend-store-uri", f"sqlite:///{root}/mlflow.db", "--workers", "1"),
        *("--artifacts-destination", (root / "artifacts").as_uri()),
    ]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    server = subprocess.Popen(
        command, env=os.environ | quiet, start_new_session=True, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + studies.PATIENCE
        while not answers(port):
            assert time.monotonic() < end
            time.sleep(0.1)
        yield
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/health", timeout=60).ok
    except requests.RequestException:
        return False


METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@contextmanager
def broken_server(port: int, status: int = 500, code: str | None = None) -> Iterator[None]:
    """Answers everything with one status, and MLflow's code of an error where there is one."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        if code is None:
            request.send_error(status)
            return
        request.send_response(status)
        request.end_headers()
        request.wfile.write(json.dumps({"error_code": code, "message": "as it is"}).encode())

    answers = {f"do_{method}": answer for method in METHODS} | {"log_message": lambda *_: None}
    broken = type("Broken", (BaseHTTPRequestHandler,), answers)
    server = ThreadingHTTPServer(("127.0.0.1", port), broken)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def waiting(root: Path) -> set[int]:
    """The trials that have ended and that MLflow's database does not have whole."""
    query = (
        "SELECT value FROM tags JOIN runs USING (run_uuid) "
        "WHERE key = 'trial' AND status IN ('FINISHED', 'FAILED')"
    )
    with closing(sqlite3.connect(root / "mlflow.db", studies.PATIENCE)) as database:
        recorded = {int(value) for (value,) in database.execute(query)}
    return studies.outcomes(root, "outage").keys() - recorded


def test_nothing_is_lost_while_the_server_is_gone(tmp_path: Path, runs: Path, port: int) -> None:
    tree = tiny("outage", tracking={"mlflow": f"http://127.0.0.1:{port}"})
    sweep = write(tmp_path / "sweep.yaml", tree)

    # gone from the start
    done = cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path)
    assert done.code == 0, done
    assert done.out.count("trials go on, and what is to be recorded waits") == 1
    assert "the records of 2 trials wait beside them: `micronet-search sync outage`" in done.out
    assert waiting(runs) == {0, 1}
    assert "Connection refused" in cli("sync", "outage", "--root", runs, cwd=tmp_path).error

    # answering 500
    with broken_server(port):
        done = cli("run", sweep, "--root", runs, "--trials", 3, cwd=tmp_path)
        assert done.code == 0, done
        assert "500" in done.out
        assert "500" in cli("sync", "outage", "--root", runs, cwd=tmp_path).error
    assert waiting(runs) == {0, 1, 2}

    # delivered by hand, once, in its order
    with mlflow_server(runs, port):
        done = cli("sync", "outage", "--root", runs, cwd=tmp_path, environment=PATIENT)
        assert (done.code, done.out) == (0, "outage: 3 trials delivered to MLflow\n"), done
        assert not waiting(runs)
        left = read(runs, "outage")
        assert_whole(left, trials=3)
        recorded = [left.children[number].id for number in sorted(left.children)]
        done = cli("sync", "outage", "--root", runs, cwd=tmp_path, environment=PATIENT)
        assert done.out == "outage: 0 trials delivered to MLflow\n", done

        # gone in the middle of a study, from its third trial on, and back before its last
        gone, back = (Hold(START, call, tmp_path / f"{call}") for call in (3, 6))
        arguments = ("run", sweep, "--root", runs, "--trials", 9)
        changes = [SOON, gone, back]
        command = Command(*arguments, cwd=tmp_path, environment=PATIENT, kill=changes)
        assert command.until((runs / "studies/outage/trials/0004/outcome.json").exists)
        assert not waiting(runs) - {4}
    gone.until.touch()
    assert command.until(lambda: len(waiting(runs)) > 2)
    with mlflow_server(runs, port):
        back.until.touch()
        done = command.wait()
        assert done.code == 0, done
        assert done.out.count("trials go on, and what is to be recorded waits") == 1
        assert not waiting(runs)
    left = read(runs, "outage")
    assert_whole(left, trials=9)
    assert [left.children[number].id for number in sorted(left.children)][:3] == recorded


def test_a_refusal_is_told_at_once_and_loses_nothing(tmp_path: Path, runs: Path, port: int) -> None:
    uri = f"http://127.0.0.1:{port}"
    sweep = write(tmp_path / "sweep.yaml", tiny("outage", tracking={"mlflow": uri}))
    with broken_server(port, 400, "INVALID_PARAMETER_VALUE"):
        run = ("run", sweep, "--root", runs, "--trials", 1)
        found = cli(*run, cwd=tmp_path).error
        assert "INVALID_PARAMETER_VALUE: as it is" in found
        assert uri in found
        assert not studies.outcomes(runs, "outage")
    assert cli(*run, cwd=tmp_path).code == 0
    with broken_server(port, 403):
        assert "403" in cli(*run, cwd=tmp_path).error
        assert "403" in cli("sync", "outage", "--root", runs, cwd=tmp_path).error
    assert waiting(runs) == {0}
    assert len(studies.outcomes(runs, "outage")) == 1


@pytest.mark.parametrize(
    ("status", "code", "passing"),
    [
        (400, "INVALID_PARAMETER_VALUE", False),
        (404, "RESOURCE_DOES_NOT_EXIST", False),
        (400, None, False),
        (401, None, False),
        (405, None, False),
        (413, None, False),
        (408, None, True),
        (429, None, True),
        (429, "REQUEST_LIMIT_EXCEEDED", True),
        (500, None, True),
        (503, "TEMPORARILY_UNAVAILABLE", True),
    ],
)
def test_what_a_server_answers_is_a_refusal_or_an_outage(
    port: int, monkeypatch: pytest.MonkeyPatch, status: int, code: str | None, passing: bool
) -> None:
    from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

    uri = f"http://127.0.0.1:{port}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with broken_server(port, status, code):
        with pytest.raises(TrackingError) as of_a_run:
            connect(uri)
        artifacts = MlflowArtifactsRepository(f"mlflow-artifacts://127.0.0.1:{port}/1/a", uri)
        with pytest.raises(TrackingError) as of_an_artifact, reported(uri):
            artifacts.log_artifact(__file__)
    assert (of_a_run.value.passing, of_an_artifact.value.passing) == (passing, passing)


def test_sync_leaves_a_running_study_to_its_driver(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("busy", search__trials=studies.ENDLESS))
    command = Command("run", sweep, "--root", runs, cwd=tmp_path)
    assert command.until((runs / "studies/busy/trials/0000").exists)
    found = cli("sync", "busy", "--root", runs, cwd=tmp_path).error
    assert f"process {command.pid} on" in found
    command.send(signal.SIGKILL)
    assert command.wait().code == -9


@pytest.mark.parametrize("command", ["run", "sync"])
def test_records_that_mlflow_has_lost_are_made_again(
    tmp_path: Path, runs: Path, database: Path, command: str
) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("lost", search__trials=3))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    before = read(runs, "lost")
    (runs / "mlflow.db").write_bytes(database.read_bytes())
    subject = sweep if command == "run" else "lost"
    done = cli(command, subject, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    after = read(runs, "lost")
    assert_whole(after, trials=3)
    assert after.parent.metrics == before.parent.metrics
    assert without_ids(after.parent) == without_ids(before.parent)
    for number, run in after.children.items():
        assert run.metrics == before.children[number].metrics
        assert run.params == before.children[number].params
    assert studies.outcomes(runs, "lost") == before.outcomes


def without_ids(run: studies.Run) -> dict[str, str]:
    """The tags that a study decides; MLflow's own name users and runs."""
    return {key: value for key, value in run.tags.items() if not key.startswith("mlflow.")}


def test_records_that_an_earlier_version_left_are_delivered(
    tmp_path: Path, runs: Path, port: int
) -> None:
    gone = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    sweep = write(tmp_path / "sweep.yaml", tiny("outage", search__trials=2))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path, environment=gone).code == 0
    folder = runs / "studies/outage"
    (folder / "start.json").rename(folder / "record.json")
    note = {"entered": 0.0, "params": {}, "step": 9, "hypervolume": 9.0, "best_score": None}
    for trial in folder.glob("trials/*"):
        (trial / "record.json").write_text(json.dumps(note))
    done = cli("sync", "outage", "--root", runs, cwd=tmp_path)
    assert done.out == "outage: 2 trials delivered to MLflow\n", done
    left = read(runs, "outage")
    assert_whole(left, trials=2)
    assert left.parent.tags["device"] == "cpu"
    assert not list(folder.rglob("record.json"))


def test_sync_repairs_what_a_kill_left(tmp_path: Path, runs: Path, port: int) -> None:
    """Optuna was not told of the second trial, and its journal ends within a line."""
    gone = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}"}
    sweep = write(tmp_path / "sweep.yaml", tiny("outage", search__trials=3))
    kill = Kill("micronet_search.study.ledger:Ledger._tell", "before", 2)
    command = Command("run", sweep, "--root", runs, cwd=tmp_path, environment=gone, kill=kill)
    assert command.wait().code == -signal.SIGKILL
    with open(runs / "studies/outage/optuna.journal", "ab") as journal:
        journal.write(b'{"op_code": 5, "worker')
    for count in (2, 0):
        done = cli("sync", "outage", "--root", runs, cwd=tmp_path)
        assert done.out == f"outage: {count} trials delivered to MLflow\n", done
    assert read(runs, "outage").parent.status == "SCHEDULED"
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert_whole(read(runs, "outage"), trials=3)


@pytest.mark.parametrize(("seconds", "code"), [(1e9, 0), (0.0, -signal.SIGKILL)])
def test_the_picture_is_not_drawn_for_every_trial(
    tmp_path: Path, runs: Path, seconds: float, code: int
) -> None:
    """A driver that drew a third one, after the first trial's and the end's, would be gone."""
    sweep = write(tmp_path / "sweep.yaml", tiny("drawn", search__trials=4))
    changes = [
        Setting("micronet_search.study.projection:REDRAW", seconds),
        Kill("mlflow:MlflowClient.log_figure", "before", 3),
    ]
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=changes).wait()
    assert done.code == code, done
    if code:
        assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert_whole(read(runs, "drawn"), trials=4)


def test_a_driver_that_loses_optunas_storage_is_shown_as_waiting(
    tmp_path: Path, runs: Path
) -> None:
    """What MLflow lacks needs the storage too, also at the driver's end."""
    sweep = write(tmp_path / "sweep.yaml", tiny("lost", search__trials=3))
    gone = StorageInternalError("gone")
    fault = Fault("micronet_search.study.projection:Projection._project", 2, gone, lasts=True)
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=fault).wait()
    assert done.error == "Optuna's storage failed: gone"
    left = read(runs, "lost")
    assert (left.parent.status, len(left.children), len(left.outcomes)) == ("SCHEDULED", 1, 2)
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert_whole(read(runs, "lost"), trials=3)
