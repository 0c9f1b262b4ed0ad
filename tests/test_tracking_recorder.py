import getpass
import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from micronet_search.config.sweep import Sweep
from micronet_search.store.outcome import Epoch, Outcome
from micronet_search.store.paths import Root
from micronet_search.study.start import environment
from micronet_search.tracking.client import TrackingError
from micronet_search.tracking.picture import Point
from micronet_search.tracking.recorder import Recorder

START = 1_700_000_000.0
SCORES = {
    "imt": {"score": 0.02, "parameters": 0.015, "operations": 0.005},
    "micronet2019": {"score": 0.007, "parameters": 0.004, "operations": 0.003},
}
PARAMS = {"network.growth_rate": 12, "training.learning_rate": 1e-05, "network.layers": [3, 6, 8]}
ROWS = ("metrics", "latest_metrics", "params", "tags", "experiments")


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Root:
    """One root for all tests, because its database takes seconds to create."""
    return Root(tmp_path_factory.mktemp("tracking") / "my runs")


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def sweep(request: pytest.FixtureRequest) -> Sweep:
    return make_sweep("".join(c if c.isalnum() else "-" for c in request.node.name)[:100])


@pytest.fixture
def client(root: Root) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root.mlflow_db}")


def make_sweep(name: str, **tracking: str) -> Sweep:
    return Sweep.model_validate(
        {
            "name": name,
            "dataset": {"name": "digits"},
            "objectives": {"accuracy": {"at_least": 0.9}, "score": {"at_most": 0.03}},
            "candidate": {},
            "search": {"trials": 3},
            "tracking": tracking,
        }
    )


def is_feasible(number: int) -> bool:
    """Every trial here is."""
    return True


def complete(epochs: int = 3, **changes: Any) -> Outcome:
    curve = tuple(
        Epoch(e, "fit", 1 / e, 1 - 1 / (e + 1), 2.0, START + 2 * e) for e in range(1, epochs + 1)
    )
    values: dict[str, Any] = {
        "state": "complete",
        "started": START,
        "ended": START + 100.5,
        "device": "cpu",
        "accuracy": 0.91,
        "scores": SCORES,
        "parameters": 112_000,
        "nonzeros": 56_000,
        "macs": 3_000_000,
        "storage_bits": 448_004,
        "seconds": {"fit": 60.0, "prune": 20.5},
        "curve": curve,
    }
    return Outcome(**values | changes)


@pytest.fixture
def artifacts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "candidate.yaml", tmp_path / "layers.csv"]
    for path in paths:
        path.write_text(path.name)
    return paths


def runs(client: MlflowClient, sweep: Sweep) -> tuple[Run, dict[int, Run]]:
    """The parent and the children by their trial, all of them, each once."""
    experiment = client.get_experiment_by_name(sweep.name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    (parent,) = [run for run in found if "study" in run.data.tags]
    children = [run for run in found if "trial" in run.data.tags]
    numbered = {int(run.data.tags["trial"]): run for run in children}
    assert len(numbered) == len(children) == len(found) - 1
    assert all(
        run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in numbered.values()
    )
    return parent, numbered


def tables(root: Root) -> dict[str, list[Any]]:
    with sqlite3.connect(root.mlflow_db) as database:
        return {name: sorted(database.execute(f"SELECT * FROM {name}")) for name in ROWS}


def content(client: MlflowClient, run: Run) -> dict[str, Any]:
    """All that a run holds, without the names that MLflow gave it."""
    run_id = run.info.run_id
    tags = {key: value for key, value in run.data.tags.items() if key != "mlflow.parentRunId"}
    return {
        "metrics": {
            key: [(m.value, m.timestamp, m.step) for m in client.get_metric_history(run_id, key)]
            for key in run.data.metrics
        },
        "params": run.data.params,
        "tags": tags,
        "info": (run.info.status, run.info.start_time, run.info.end_time, run.info.run_name),
        "artifacts": [artifact.path for artifact in client.list_artifacts(run_id)],
    }


def test_a_trial_is_recorded_whole(
    root: Root, sweep: Sweep, client: MlflowClient, artifacts: list[Path]
) -> None:
    recorder = Recorder(sweep, root)
    recorder.record_trial(12, PARAMS, complete(), True, artifacts, "91.0%, DenseNet")
    _, children = runs(client, sweep)

    once, start = [(1_700_000_100_500, 0)], 1_700_000_000_000
    found = content(client, children[12])
    curve = {name: found["metrics"].pop(name) for name in ("train/loss", "validation/accuracy")}
    assert curve["train/loss"] == [(1 / e, start + 2000 * e, e) for e in (1, 2, 3)]
    assert curve["validation/accuracy"] == [
        (1 - 1 / (e + 1), start + 2000 * e, e) for e in (1, 2, 3)
    ]
    assert all([row[1:] for row in rows] == once for rows in found["metrics"].values())
    assert {name: rows[0][0] for name, rows in found["metrics"].items()} == {
        "accuracy": 0.91,
        "score": 0.02,
        "score_millionths": 20_000.0,
        "score_log10": math.log10(0.02),
        "score/parameters": 0.015,
        "score/operations": 0.005,
        "score/micronet2019": 0.007,
        "cost/macs": 3_000_000,
        "cost/parameters": 112_000,
        "cost/nonzeros": 56_000,
        "cost/storage_bytes": 56_000.5,
        "seconds": 80.5,
        "seconds/fit": 60.0,
        "seconds/prune": 20.5,
    }
    assert found["params"] == {
        "network.growth_rate": "12",
        "training.learning_rate": "1e-05",
        "network.layers": "[3,6,8]",
    }
    assert found["tags"] == {
        "trial": "12",
        "state": "complete",
        "feasible": "true",
        "front": "false",
        "device": "cpu",
        "mlflow.runName": "#12  91.0%  0.02",
        "mlflow.note.content": "91.0%, DenseNet",
        "mlflow.source.name": "micronet-search",
        "mlflow.source.type": "LOCAL",
        "mlflow.user": getpass.getuser(),
    }
    assert found["info"] == ("FINISHED", start, 1_700_000_100_500, "#12  91.0%  0.02")
    assert found["artifacts"] == ["candidate.yaml", "layers.csv"]
    assert recorder.recorded == {12}
    kept = root.artifacts / sweep.name / children[12].info.run_id / "artifacts" / "layers.csv"
    assert kept.read_text() == "layers.csv"


def test_a_failed_trial_is_recorded_with_what_it_has(
    root: Root, sweep: Sweep, client: MlflowClient
) -> None:
    curve = (
        Epoch(1, "fit", 2.0, 0.1, 1.0, START + 1),
        Epoch(2, "fit", math.nan, math.inf, 1.0, START + 2),
    )
    failed = Outcome("failed", START, START + 3, "cpu", reason="loss is nan", curve=curve)
    recorder = Recorder(sweep, root)
    recorder.record_trial(0, PARAMS, failed, False, [])
    _, children = runs(client, sweep)

    assert children[0].info.status == "FAILED"
    assert children[0].data.metrics == {"train/loss": 2.0, "validation/accuracy": 0.1}
    assert children[0].data.tags["reason"] == "loss is nan"
    assert children[0].data.tags["state"] == "failed"
    assert children[0].data.tags["feasible"] == "false"
    assert recorder.recorded == {0}


def test_a_long_curve_and_many_params_are_recorded_whole(
    root: Root, sweep: Sweep, client: MlflowClient
) -> None:
    params = {f"network.leaf{i}": i for i in range(130)}
    Recorder(sweep, root).record_trial(0, params, complete(900), True, [])
    _, children = runs(client, sweep)

    found = content(client, children[0])
    assert [row[2] for row in found["metrics"]["train/loss"]] == list(range(1, 901))
    assert len(found["metrics"]["validation/accuracy"]) == 900
    assert len(found["params"]) == 130


def test_long_values_are_cut_to_what_mlflow_takes(
    root: Root, sweep: Sweep, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    params = {"training.milestones": list(range(2000)), "training.name": "é" * 6000}
    failed = complete(state="failed", reason="why " * 2500)
    Recorder(sweep, root).record_trial(0, params, failed, False, [])
    _, children = runs(client, sweep)

    milestones = json.dumps(params["training.milestones"], separators=(",", ":"))
    assert children[0].data.params["training.milestones"] == milestones[:6000]
    assert children[0].data.params["training.name"] == "é" * 6000
    assert children[0].data.tags["reason"] == "why " * 2000
    assert children[0].info.status == "FAILED"


def test_recording_twice_changes_nothing(
    root: Root, sweep: Sweep, client: MlflowClient, artifacts: list[Path]
) -> None:
    points = [Point(0, 0.91, 0.02, True)]
    front = [{"trial": 0, "accuracy": 0.91, "score": 0.02}]
    artifacts[0].write_text("name: a")

    def record(recorder: Recorder) -> None:
        recorder.record_start(artifacts[0], environment("cpu"))
        recorder.record_trial(0, PARAMS, complete(), True, artifacts)
        recorder.record_progress(1, START, 0.1, 0.02)
        recorder.record_front(front, is_feasible)
        recorder.record_picture(points, [0])
        recorder.record_status("FINISHED")

    recorder = Recorder(sweep, root)
    record(recorder)
    expected, (_, children) = tables(root), runs(client, sweep)
    before = content(client, children[0])
    record(recorder)
    record(Recorder(sweep, root))

    assert tables(root) == expected
    assert content(client, runs(client, sweep)[1][0]) == before


STEPS = ("create_run", "log_batch", "log_artifact", "set_terminated")


@pytest.fixture(scope="module")
def uninterrupted(root: Root, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    paths = [tmp_path_factory.mktemp("files") / name for name in ("candidate.yaml", "layers.csv")]
    for path in paths:
        path.write_text(path.name)
    sweep = make_sweep("uninterrupted")
    Recorder(sweep, root).record_trial(7, PARAMS, complete(), True, paths)
    client = MlflowClient(f"sqlite:///{root.mlflow_db}")
    return content(client, runs(client, sweep)[1][7])


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_record_cut_short_is_completed(
    root: Root,
    sweep: Sweep,
    client: MlflowClient,
    artifacts: list[Path],
    uninterrupted: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    when: str,
) -> None:
    real = getattr(MlflowClient, step)

    def die(*arguments: Any, **named: Any) -> None:
        if when == "after":
            real(*arguments, **named)
        raise KeyboardInterrupt

    recorder = Recorder(sweep, root)
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, step, die)
        with pytest.raises(KeyboardInterrupt):
            recorder.record_trial(7, PARAMS, complete(), True, artifacts)

    again = Recorder(sweep, root)
    assert again.recorded == ({7} if (step, when) == ("set_terminated", "after") else set())
    again.record_trial(7, PARAMS, complete(), True, artifacts)

    assert again.recorded == {7}
    assert content(client, runs(client, sweep)[1][7]) == uninterrupted


def test_the_front_moves(root: Root, sweep: Sweep, client: MlflowClient) -> None:
    recorder = Recorder(sweep, root)
    for number, accuracy in enumerate((0.91, 0.92, 0.85)):
        recorder.record_trial(number, {}, complete(accuracy=accuracy), accuracy >= 0.9, [])

    def fronts() -> list[str]:
        return [run.data.tags["front"] for _, run in sorted(runs(client, sweep)[1].items())]

    assert fronts() == ["false", "false", "false"]
    recorder.record_front([{"trial": 0, "accuracy": 0.91, "score": 0.02}], is_feasible)
    assert fronts() == ["true", "false", "false"]
    recorder = Recorder(sweep, root)
    recorder.record_front([{"trial": 1, "accuracy": 0.92, "score": 0.019}], is_feasible)
    assert fronts() == ["false", "true", "false"]
    recorder.record_front([], is_feasible)
    assert fronts() == ["false", "false", "false"]


def test_a_front_that_stays_is_written_once(
    root: Root, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(MlflowClient, "log_text", lambda _, run, text, name: written.append(text))
    recorder = Recorder(sweep, root)
    row = {"trial": 0, "accuracy": 0.9, "score": 0.02}
    for front in ([], [], [row], [row], []):
        recorder.record_front(front, is_feasible)
    Recorder(sweep, root).record_front([], is_feasible)
    empty, one = "trial,accuracy,score\n", "trial,accuracy,score\n0,0.9,0.02\n"
    assert written == [empty, one, empty, empty]


def test_the_parent_holds_the_study(
    root: Root, sweep: Sweep, client: MlflowClient, tmp_path: Path
) -> None:
    (tmp_path / "sweep.yaml").write_text("name: a\n")
    recorder = Recorder(sweep, root)
    recorder.record_start(tmp_path / "sweep.yaml", environment("cuda:0"))
    recorder.record_progress(1, START, 0.0, None)
    rows = [{"trial": 3, "accuracy": 0.91, "score": 0.02, "family": "densenet, wide"}]
    recorder.record_progress(3, START + 1, 0.25, 0.02)
    recorder.record_front(rows, is_feasible)
    recorder.record_picture([Point(3, 0.91, 0.02, True)], [3])
    parent, _ = runs(client, sweep)
    run_id = parent.info.run_id

    history = client.get_metric_history(run_id, "hypervolume")
    assert [(m.step, m.value) for m in history] == [(1, 0.0), (3, 0.25)]
    best = client.get_metric_history(run_id, "best_score")
    assert [(m.step, m.value) for m in best] == [(3, 0.02)]
    assert parent.info.run_name == sweep.name
    assert {"python", "torch", "optuna", "mlflow", "device"} <= set(parent.data.tags)
    folder = root.artifacts / sweep.name / run_id / "artifacts"
    assert (folder / "sweep.yaml").read_text() == "name: a\n"
    assert (folder / "front.csv").read_text() == (
        'trial,accuracy,score,family\n3,0.91,0.02,"densenet, wide"\n'
    )
    assert (folder / "front.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_parent_runs_while_the_driver_does(
    root: Root, sweep: Sweep, client: MlflowClient
) -> None:
    found = []
    for finished in (False, True):
        recorder = Recorder(sweep, root)
        found.append(runs(client, sweep)[0].info.status)
        recorder.record_status("RUNNING")
        found.append(runs(client, sweep)[0].info.status)
        recorder.record_status("FINISHED" if finished else "SCHEDULED")
    Recorder(sweep, root)
    found.append(runs(client, sweep)[0].info.status)

    assert found == ["SCHEDULED", "RUNNING", "SCHEDULED", "RUNNING", "FINISHED"]


def test_a_deleted_experiment_comes_back(root: Root, sweep: Sweep, client: MlflowClient) -> None:
    Recorder(sweep, root).record_trial(0, {}, complete(), True, [])
    experiment = client.get_experiment_by_name(sweep.name)
    assert experiment is not None
    client.delete_experiment(experiment.experiment_id)

    recorder = Recorder(sweep, root)
    assert recorder.recorded == {0}
    recorder.record_trial(1, {}, complete(), True, [])
    assert set(runs(client, sweep)[1]) == {0, 1}


def test_deleted_runs_stay_deleted_and_a_deleted_parent_comes_back(
    root: Root, sweep: Sweep, client: MlflowClient
) -> None:
    Recorder(sweep, root).record_trial(0, {}, complete(), True, [])
    parent, children = runs(client, sweep)
    client.delete_run(children[0].info.run_id)
    client.delete_run(parent.info.run_id)

    recorder = Recorder(sweep, root)
    recorder.record_trial(0, {}, complete(), True, [])
    recorder.record_front([{"trial": 0, "accuracy": 0.9, "score": 0.02}], is_feasible)
    parent, children = runs(client, sweep)
    assert parent.info.lifecycle_stage == "active"
    assert children[0].info.lifecycle_stage == "deleted"
    assert children[0].data.tags["front"] == "false"


def test_a_study_begun_anew_is_another_one(root: Root, sweep: Sweep, client: MlflowClient) -> None:
    Recorder(sweep, root).record_trial(0, {}, complete(), True, [])
    root.study(sweep.name).identity.unlink()

    recorder = Recorder(sweep, root)
    assert recorder.recorded == set()
    recorder.record_trial(0, {"a": 1}, complete(accuracy=0.5), False, [])
    assert recorder.recorded == {0}


def test_trials_are_found_by_their_names_and_their_tags(
    root: Root, sweep: Sweep, client: MlflowClient
) -> None:
    recorder = Recorder(sweep, root)
    for number in range(7):
        recorder.record_trial(number, {}, complete(1), True, [])
    _, before = runs(client, sweep)
    ids = [before[number].info.run_id for number in range(7)]
    for number, tag in enumerate(["1", "0", "", "9" * 5000, "٣"]):
        client.set_tag(ids[number], "trial", tag)
    client.update_run(ids[5], name="the best one")
    client.delete_tag(ids[6], "trial")
    client.delete_run(ids[6])

    recorder = Recorder(sweep, root)
    assert recorder.recorded == set(range(7))
    for number in range(7):
        recorder.record_trial(number, {"a": 1}, complete(2), True, [])
    client.restore_run(ids[6])
    Recorder(sweep, root)
    _, after = runs(client, sweep)
    assert [after[number].info.run_id for number in range(7)] == ids
    assert after[5].info.run_name == "the best one"
    assert not any(run.data.params for run in after.values())


def test_a_trial_that_nothing_tells_is_recorded_anew(
    root: Root, sweep: Sweep, client: MlflowClient
) -> None:
    Recorder(sweep, root).record_trial(0, {}, complete(1), True, [])
    _, before = runs(client, sweep)
    odd = before[0].info.run_id
    client.update_run(odd, name="the best one")
    client.delete_tag(odd, "trial")
    expected = client.get_run(odd).to_dictionary()

    recorder = Recorder(sweep, root)
    assert recorder.recorded == set()
    recorder.record_trial(0, {}, complete(1), True, [])
    recorder.record_front([{"trial": 0, "accuracy": 0.9, "score": 0.02}], is_feasible)
    assert Recorder(sweep, root).recorded == {0}
    assert client.get_run(odd).to_dictionary() == expected


def test_a_study_of_that_name_elsewhere_is_let_be(
    root: Root, sweep: Sweep, client: MlflowClient, tmp_path: Path
) -> None:
    here = make_sweep(sweep.name, mlflow=f"sqlite:///{root.mlflow_db}")
    there = Root(tmp_path / "there")
    for place in (root, there):
        recorder = Recorder(here, place)
        recorder.record_status("RUNNING")
        recorder.record_trial(0, {}, complete(), True, [])
        recorder.record_front([{"trial": 0, "accuracy": 0.9, "score": 0.02}], is_feasible)
    Recorder(here, root)

    experiment = client.get_experiment_by_name(sweep.name)
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], "tags.study LIKE '%'")
    assert {run.data.tags["folder"] for run in found} == {
        str(place.study(sweep.name).path) for place in (root, there)
    }
    assert [run.info.status for run in found] == ["RUNNING"] * 2
    assert not any("superseded" in run.data.tags for run in found)
    fronts = client.search_runs([experiment.experiment_id], "tags.front = 'true'")
    assert len(fronts) == 2


def test_many_trials_are_found_again(
    root: Root, sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder(sweep, root)
    for number in range(5):
        recorder.record_trial(number, {}, complete(1), True, [])
    real = MlflowClient.search_runs

    pages = []

    def two_a_page(
        self: MlflowClient,
        experiments: list[str],
        query: str,
        view: int,
        max_results: int = 2,
        page_token: str | None = None,
    ) -> Any:
        pages.append(page_token)
        return real(self, experiments, query, view, max_results, None, page_token)

    monkeypatch.setattr(MlflowClient, "search_runs", two_a_page)
    assert Recorder(sweep, root).recorded == {0, 1, 2, 3, 4}
    assert len(pages) == 1 + 3  # the parent's, and the children's


def test_a_record_that_fails_is_one_line(root: Root, sweep: Sweep, tmp_path: Path) -> None:
    recorder = Recorder(sweep, root)
    with pytest.raises(TrackingError, match=r"failed: .*nowhere") as error:
        recorder.record_trial(0, {}, complete(), True, [tmp_path / "nowhere"])
    assert "\n" not in str(error.value)
    assert recorder.recorded == set()
