import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from micronet_search.config.sweep import Sweep, Tracking
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root
from micronet_search.tracking.recorder import Recorder
from micronet_search.tracking.ui import serve

SERVE = """
import signal, sys
from pathlib import Path
from micronet_search.config.sweep import Tracking
from micronet_search.store.paths import Root
from micronet_search.tracking.ui import serve

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
        serve(Root(tmp_path), Tracking(mlflow="http://host:1"), "127.0.0.1", 0)


@pytest.mark.parametrize("port", [None, 70000])
def test_a_port_that_cannot_be_used_is_refused(tmp_path: Path, port: int | None) -> None:
    root = Root(tmp_path)
    root.mlflow_db.touch()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        number = other.getsockname()[1] if port is None else port
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1, port {number}"):
            serve(root, Tracking(), "127.0.0.1", number)


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
            _, errors = server.communicate(timeout=30)
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
    recorder = Recorder.open(sweep, root)
    recorder.record_trial(0, {}, Outcome("complete", 1.0, 2.0, "cpu"), False, [artifact])
    recorder.close(finished=True)


def wait_for(base: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{base}/health", timeout=5).close()
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
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)
