"""Optuna's and MLflow's stores in a real PostgreSQL server, which is also stopped and started."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import studies
from mlflow import MlflowClient
from studies import Command, Kill, cli, tiny, write

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]


class Server:
    """A server of its own, with a database for each store."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.folder = folder
        shutil.chown(folder, "postgres")
        self._run("initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres")
        self.start()
        for name in ("optuna", "mlflow"):
            self._run("createdb", "-h", "127.0.0.1", "-p", self.port, "-U", "postgres", name)

    def _run(self, *command: object) -> None:
        # PostgreSQL refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--", *map(str, command)]
        subprocess.run(as_user, check=True, cwd=self.folder, stdout=subprocess.DEVNULL)

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1"
        log = self.folder / "log"
        self._run("pg_ctl", "-D", self.folder / "data", "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/{database}"


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("psycopg")
    if os.getuid() or not all(map(shutil.which, ("initdb", "pg_ctl", "runuser"))):
        pytest.skip("needs root and PostgreSQL's server programs on the PATH")
    folder = tmp_path_factory.mktemp("postgresql")
    for above in folder.parents:  # the server's user is another one
        if str(above).startswith("/tmp/"):
            above.chmod(0o755)
    made = Server(folder)
    yield made
    with contextlib.suppress(subprocess.CalledProcessError):  # a test may have stopped it
        made.stop()


def test_a_study_in_postgresql(tmp_path: Path, server: Server) -> None:
    root = tmp_path / "runs"
    tracking = {"optuna": server.url("optuna"), "mlflow": server.url("mlflow")}
    tracking["artifacts"] = (root / "artifacts").as_uri()
    sweep = write(tmp_path / "sweep.yaml", tiny("shared", search__trials=6, tracking=tracking))
    run = ("run", sweep, "--root", root, "--trials")

    kill = Kill("micronet_search.study.ledger:Ledger._tell", "before", 2)
    assert Command(*run, 2, cwd=tmp_path, kill=kill).wait().code == -signal.SIGKILL
    assert cli(*run, 3, cwd=tmp_path).code == 0

    # the server dies in the middle, and with it the store that the driver cannot do without
    command = Command(*run, 200, cwd=tmp_path)
    assert command.until((root / "studies/shared/trials/0004/outcome.json").exists)
    server.stop()
    assert "Optuna's storage failed" in command.wait().error
    assert "tracking.optuna" in cli(*run, 6, cwd=tmp_path).error
    server.start()
    done = cli(*run, len(studies.outcomes(root, "shared")) + 2, cwd=tmp_path)
    assert done.code == 0, done
    assert cli("sync", "shared", "--root", root, cwd=tmp_path).code == 0

    ended = studies.outcomes(root, "shared")
    trials = studies.optuna_trials(root, "shared", server.url("optuna"))
    kept = [trial for trial in trials if "screened" not in trial.user_attrs]
    assert [trial.number for trial in kept] == sorted(ended)
    assert all(trial.state.is_finished() for trial in kept)
    client = MlflowClient(server.url("mlflow"))
    (experiment,) = [e for e in client.search_experiments() if e.name == "shared"]
    runs = client.search_runs([experiment.experiment_id])
    children = {int(r.data.tags["trial"]): r for r in runs if "trial" in r.data.tags}
    assert len(runs) == len(children) + 1 == len(ended) + 1
    for number, outcome in ended.items():
        assert children[number].data.metrics["accuracy"] == outcome.accuracy
        assert children[number].info.status == "FINISHED"
