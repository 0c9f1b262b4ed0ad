"""MLflow as a projection of a study's folder: what is recorded, in what order, and when."""

import time
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import create_trial

from micronet_search.config.sweep import Sweep
from micronet_search.store.files import write_json, write_text
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root
from micronet_search.study import projection
from micronet_search.study.projection import Projection
from micronet_search.tracking.client import TrackingError
from micronet_search.tracking.recorder import Recorder


@pytest.fixture
def root(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Root:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Root(runs)


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def outcomes() -> dict[int, Outcome]:
    return {}


@pytest.fixture
def start(root: Root, outcomes: dict[int, Outcome], told: list[str]) -> Callable[[], Projection]:
    """Starts the projection of a study of five trials, of which those with an outcome ended."""
    sweep = Sweep.model_validate(
        {
            "name": "study",
            "dataset": {"name": "digits"},
            "objectives": {"accuracy": {"at_least": 0.5}, "score": {"at_most": 1.0}},
            "candidate": {},
            "search": {"trials": 5},
        }
    )
    write_text(root.study("study").sweep, "name: study\n")
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials([create_trial(values=[0.0, 0.0]) for _ in range(5)])

    def open_projection() -> Projection:
        found = Projection(sweep, root, study, outcomes, told.append)
        found.begin("cpu")
        return found

    return open_projection


def end(root: Root, outcomes: dict[int, Outcome], number: int, accuracy: float, at: float) -> None:
    parts = {"parameters": 0.25, "operations": 0.25, "score": 0.5}
    outcomes[number] = Outcome("complete", 0.0, at, "cpu", accuracy=accuracy, scores={"imt": parts})
    write_json(root.study("study").trial(number).outcome, outcomes[number].to_json())


def history(root: Root) -> list[tuple[int, float, float]]:
    """The steps of the hypervolume, with its values and seconds."""
    client = MlflowClient(f"sqlite:///{root.mlflow_db}")
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.study LIKE '%'")
    rows = client.get_metric_history(parent.info.run_id, "hypervolume")
    return [(row.step, pytest.approx(row.value), row.timestamp / 1000) for row in rows]


def test_trials_are_recorded_in_the_order_in_which_they_ended(
    root: Root, outcomes: dict[int, Outcome], start: Callable[[], Projection]
) -> None:
    for number, accuracy, at in ((2, 0.6, 30.0), (0, 0.8, 40.0), (1, 0.7, 30.0)):
        end(root, outcomes, number, accuracy, at)
    assert start().flush() == 3
    assert history(root) == [(1, 0.1, 30.0), (2, 0.1, 30.0), (3, 0.15, 40.0)]


def test_a_late_result_changes_no_step_that_is_recorded(
    root: Root, outcomes: dict[int, Outcome], start: Callable[[], Projection]
) -> None:
    end(root, outcomes, 0, 0.8, 40.0)
    found = start()
    found.update()
    end(root, outcomes, 1, 0.6, 30.0)
    found.update()
    found.close(finished=False)
    assert start().flush() == 0
    assert history(root) == [(1, 0.15, 40.0), (2, 0.15, 40.0)]


def test_an_update_without_news_asks_nothing(
    root: Root,
    outcomes: dict[int, Outcome],
    start: Callable[[], Projection],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end(root, outcomes, 0, 0.8, 40.0)
    found = start()
    found.update()
    monkeypatch.setattr(found, "_with_recorder", None)
    found.update()
    monkeypatch.undo()

    # but the picture is drawn once it may be again, though nothing else has changed
    drawn: list[int] = []
    monkeypatch.setattr(Recorder, "record_picture", lambda *_: drawn.append(1))
    end(root, outcomes, 1, 0.9, 50.0)
    found.update()
    assert not drawn
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + projection.REDRAW)
    for _ in range(2):
        found.update()
    assert drawn == [1]


def test_a_store_that_does_not_answer_is_asked_now_and_then(
    root: Root,
    outcomes: dict[int, Outcome],
    start: Callable[[], Projection],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, asked = time.monotonic(), []
    clock = [now]

    def fail(*_: object) -> None:
        asked.append(1)
        raise TrackingError("silence", passing=True)

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock[0])
        patch.setattr(Recorder, "__init__", fail)
        found = start()
        end(root, outcomes, 0, 0.8, 40.0)
        for seconds in (0, projection.PATIENCE - 1, projection.PATIENCE):
            clock[0] = now + seconds
            found.update()
    assert asked == [1, 1]
    monkeypatch.setattr(time, "monotonic", lambda: now + 3 * projection.PATIENCE)
    found.update()
    assert told == [
        "silence; trials go on, and what is to be recorded waits beside them",
        "MLflow answers again",
    ]
    assert len(history(root)) == 1


def test_what_waits_is_counted_as_far_as_it_is_known(
    root: Root,
    outcomes: dict[int, Outcome],
    start: Callable[[], Projection],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise TrackingError("silence", passing=True)

    monkeypatch.setattr(Recorder, "record_trial", fail)
    monkeypatch.setattr(Recorder, "__init__", fail)
    for number, count in enumerate(("1 trials", "up to 2 trials")):
        found = start()
        end(root, outcomes, number, 0.8, 40.0)
        found.close(finished=True)
        assert f"silence; the records of {count} wait beside them" in told[-1]


def test_a_study_that_is_not_read_whole_keeps_its_front(
    root: Root, outcomes: dict[int, Outcome], start: Callable[[], Projection]
) -> None:
    for number in range(2):
        end(root, outcomes, number, 0.8 + number / 10, 40.0)
    start().close(finished=True)
    (table,) = root.path.glob("artifacts/study/*/artifacts/front.csv")
    before = table.read_text()
    del outcomes[1]
    start().close(finished=False)
    assert table.read_text() == before
