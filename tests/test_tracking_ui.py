import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from studies import PATIENCE, Command

from micronet_search.config.sweep import Sweep, Tracking
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root
from micronet_search.tracking.recorder import Recorder
from micronet_search.tracking.ui import _allowed_hosts, _page, serve

SERVE = """
import signal, sys
from pathlib import Path
from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking.ui import _allowed_hosts, serve

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(serve(Root(Path(sys.argv[1])), Tracking(), "127.0.0.1", int(sys.argv[2])))
"""


@pytest.fixture(autouse=True)
def _no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def test_no_record_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"mlflow\.db does not exist, expected the records"):
        serve(Root(tmp_path), Tracking(), "127.0.0.1", 0)


def test_the_records_of_a_server_are_its_own_to_show(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kept by the server http://host:1, open that"):
        serve(Root(tmp_path), Tracking(mlflow="http://ann:secret@host:1"), "127.0.0.1", 0)


def test_a_file_that_is_not_mlflows_is_refused(tmp_path: Path) -> None:
    Root(tmp_path).mlflow_db.write_bytes(b"no database" * 1000)
    with pytest.raises(ValueError, match=r"mlflow\.db: file is not a database, expected MLflow's"):
        serve(Root(tmp_path), Tracking(), "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("127.0.0.1", {"127.0.0.1:5000", "localhost", "localhost:5000", "[::1]:8000"}),
        ("::1", {"[::1]", "localhost:5000"}),
        ("Box", {"box", "box:5000"}),
        ("10.0.0.7", {"10.0.0.7:5000"}),
        ("0.0.0.0", {"localhost:5000", "127.0.0.1", f"{socket.gethostname().lower()}:5000"}),
    ],
)
def test_only_the_hosts_that_were_asked_for_are_allowed(host: str, named: set[str]) -> None:
    from mlflow.server.security_utils import is_allowed_host_header

    allowed = _allowed_hosts(host).split(",")
    foreign = {"10.evil.com", "192.168.evil.com:5000", "localhost.evil.com", "10.0.0.8:5000", ""}
    for name in named | foreign:
        assert is_allowed_host_header(allowed, name) == (name in named)


def test_the_page_of_a_database_that_the_environment_names(tmp_path: Path, finished: Path) -> None:
    """One server for everything, because it takes ten seconds to start."""
    moved = tmp_path / "moved #1"
    shutil.copytree(finished, moved)
    for folder in moved.glob("artifacts/tiny/*/artifacts"):
        (folder / "moved.txt").write_text("here")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{moved}/mlflow.db?password=mellon-42"}
    page = Command(
        "ui", "--root", tmp_path / "none", "--port", port, cwd=tmp_path, environment=store
    )
    try:
        assert page.until(lambda: answers(port, "localhost"))
        assert answers(port, "127.0.0.1:9999")  # through a tunnel, say
        assert not answers(port, "10.evil.com")
        assert not answers(port, f"evil.com:{port}")

        base = f"http://127.0.0.1:{port}"
        page.until(lambda: f"{base}/#/experiments?workflowType=machine_learning" in page.out)
        assert str(_page(base, "tiny")).endswith("&viewStateShareKey=trials")
        assert _page(base, "none") is None

        with closing(sqlite3.connect(moved / "mlflow.db")) as database:
            runs = [row[0] for row in database.execute("SELECT run_uuid FROM runs")]
        artifacts = f"http://127.0.0.1:{port}/get-artifact?path=moved.txt&run_uuid="
        for run in runs:
            with urllib.request.urlopen(artifacts + run) as file:
                assert file.read() == b"here"

        assert len(processes("environ", str(moved))) >= 2
        assert not processes("cmdline", "mellon-42")
        page.send(signal.SIGKILL)
        assert page.wait().code == -9
        end = time.monotonic() + PATIENCE
        while left := processes("environ", str(moved)):
            assert time.monotonic() < end, left
            time.sleep(0.05)
    finally:
        for process in processes("environ", str(moved)):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def answers(port: int, host: str) -> bool:
    """Whether the page is shown to a request that names a host."""
    connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with closing(connection):
        try:
            connection.request("GET", "/", headers={"Host": host})
        except ConnectionRefusedError:
            return False
        status = connection.getresponse().status
    assert status in (200, 403)
    return status == 200


def processes(where: str, text: str) -> list[int]:
    """The processes whose environment or command line holds a text."""
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{where}"):
        with suppress(OSError):  # it has just ended, or is another user's
            if text.encode() in path.read_bytes():
                found.append(int(path.parent.name))
    return found


@pytest.mark.slow
def test_the_server_shows_the_records_and_takes_new_ones(tmp_path: Path) -> None:
    root, remote = Root(tmp_path / "my runs"), Root(tmp_path / "remote")
    (tmp_path / "layers.csv").write_text("layer\n")
    record(root, tmp_path / "layers.csv")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", SERVE, str(root.path), str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, cwd=tmp_path, text=True) as server:
        try:
            wait_for(base)
            shown(base, "a")
            record(remote, tmp_path / "layers.csv", name="b", mlflow=base)
            shown(base, "b")
        finally:
            server.send_signal(signal.SIGINT)
            _, errors = server.communicate(timeout=PATIENCE)
    assert server.returncode == 0
    assert "Traceback" not in errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layers.csv", "my runs", "remote"]
    assert not remote.mlflow_db.exists()


def record(root: Root, artifact: Path, name: str = "a", **tracking: str) -> None:
    sweep = Sweep.model_validate(
        {
            "name": name,
            "dataset": {"name": "digits"},
            "objectives": {"accuracy": {"at_least": 0.9}, "score": {"at_most": 0.03}},
            "candidate": {},
            "search": {"trials": 3},
            "tracking": tracking,
        }
    )
    recorder = Recorder(sweep, root)
    recorder.record_trial(0, {}, Outcome("complete", 1.0, 2.0, "cpu"), False, [artifact])
    recorder.record_status("FINISHED")


def wait_for(base: str) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"{base}/health", timeout=60).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server does not start")


def shown(base: str, study: str) -> None:
    api = f"{base}/api/2.0/mlflow"
    experiment = get(f"{api}/experiments/get-by-name?experiment_name={study}")["experiment"]
    query = {"experiment_ids": [experiment["experiment_id"]], "filter": "tags.trial = '0'"}
    (run,) = get(f"{api}/runs/search", query)["runs"]
    run_id = run["info"]["run_id"]
    (found,) = get(f"{api}/artifacts/list?run_id={run_id}")["files"]
    assert found["path"] == "layers.csv"
    with urllib.request.urlopen(f"{base}/get-artifact?path=layers.csv&run_uuid={run_id}") as file:
        assert file.read() == b"layer\n"


def get(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return json.load(answer)
