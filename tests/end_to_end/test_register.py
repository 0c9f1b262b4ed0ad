"""Exported models in MLflow's registry, served as anybody would serve them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from mlflow import MlflowClient
from sklearn.datasets import load_digits
from studies import cli

from micronet_search.config.files import load_stored_sweep
from micronet_search.runtime import onnx_model
from micronet_search.shipped import load
from micronet_search.store.paths import Root
from micronet_search.tracking import registry


def pixels(count: int) -> Any:
    """Digits as uint8 images, the way the dataset has them."""
    images = np.rint(load_digits().images[:count] * 255 / 16)
    return images.astype(np.uint8)[:, None]


@pytest.fixture
def exported(tmp_path: Path, finished: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def registered(root: Path, trial: int, score: float, confirmed: bool) -> str:
    """What is said of a trial's network that is registered."""
    folder = Root(root).study("tiny")
    shipped = load(folder.trial(trial).path)
    content = onnx_model.write(shipped, {})
    entry = registry.Entry(trial, shipped.candidate, content, score, 0.9, confirmed)
    return registry.register(load_stored_sweep(folder.sweep), Root(root), entry)


def test_champion_and_challenger(exported: Path) -> None:
    assert registered(exported, 0, 0.3, False) == "registered as tiny, version 1, challenger"
    # the same file again is the same version
    assert registered(exported, 0, 0.3, False) == "registered as tiny, version 1, challenger"
    assert registered(exported, 1, 0.2, True) == "registered as tiny, version 2, champion"
    assert registered(exported, 2, 0.4, True) == "registered as tiny, version 3, challenger"
    client = MlflowClient(f"sqlite:///{exported / 'mlflow.db'}")
    assert client.get_model_version_by_alias("tiny", "champion").tags["confirmed"] == "true"
    assert client.get_model_version_by_alias("tiny", "champion").tags["score"] == "0.2"
    assert int(client.get_model_version_by_alias("tiny", "challenger").version) == 3


@pytest.mark.timeout(300)
def test_a_server_answers_raw_images(tmp_path: Path, exported: Path) -> None:
    done = cli("export", "tiny", "--trial", 0, "--register", "--root", exported, cwd=tmp_path)
    assert done.code == 0, done
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # MLflow starts a server of the same environment by its name
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    uri = f"sqlite:///{exported / 'mlflow.db'}"
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri, "PATH": path}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/tiny@challenger"]
    options = ["--env-manager", "local", "--port", str(port), "--host", "127.0.0.1"]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command + options, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        while not is_up(port):
            assert server.poll() is None, (tmp_path / "server.log").read_text()
            time.sleep(0.1)
        images = pixels(20)
        content = json.dumps({"inputs": {"image": images.tolist()}}).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/invocations", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            found = json.load(answer)["predictions"]
    finally:
        with suppress(ProcessLookupError):  # it has ended by itself
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    session = onnxruntime.InferenceSession(tmp_path / "exports/tiny/0000/model.onnx")
    (expected,) = session.run(["logits"], {"image": images})
    np.testing.assert_allclose(np.array(found["logits"]), expected, rtol=1e-5, atol=1e-5)


def is_up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping") as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_trial_that_mlflow_does_not_know_is_refused(exported: Path) -> None:
    client = MlflowClient(f"sqlite:///{exported / 'mlflow.db'}")
    (experiment,) = client.search_experiments(filter_string="name = 'tiny'")
    for run in client.search_runs([experiment.experiment_id], "tags.trial = '0'"):
        client.update_run(run.info.run_id, name="mine")
        client.delete_tag(run.info.run_id, "trial")
    with pytest.raises(ValueError, match="found no run of trial 0 in MLflow"):
        registered(exported, 0, 0.3, False)
