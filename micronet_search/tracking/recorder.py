"""What MLflow is told about a study: the driver owns the recorder, and nothing else writes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micronet_search.config.sweep import Sweep
from micronet_search.store.identity import study_id
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root
from micronet_search.store.tables import to_csv
from micronet_search.tracking import rows
from micronet_search.tracking.client import artifact_location, connect, reported, tracking_uri
from micronet_search.tracking.parent import find_experiment, find_parent, whereabouts
from micronet_search.tracking.passwords import masked
from micronet_search.tracking.picture import Point, front_figure

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

# MLflow takes 1000 rows a call, of which 100 params and 100 tags at most.
_METRICS, _PARAMS = 800, 100
_NAME = re.compile(r"trial ([0-9]{1,9})")


@dataclass(frozen=True)
class _Child:
    """What is known of a trial's run.

    Attributes:
        run_id: MLflow's name of it.
        ended: Whether all of it is recorded.
        front: Its tag that says whether it is on the front.
        deleted: Whether the user has deleted it, which stands.
    """

    run_id: str
    ended: bool
    front: str | None = rows.truth(False)
    deleted: bool = False


class Recorder:
    """The record of one study: an experiment, a parent run, and a child run per trial.

    Every method may be called again after a crash, with the same values, and doubles nothing.
    Every method raises `TrackingError` where MLflow fails.
    """

    def __init__(self, client: MlflowClient, uri: str, sweep: Sweep, parent: Run) -> None:
        self._client = client
        self._uri = uri
        self._name = sweep.name
        self._objectives = sweep.objectives
        self._experiment = parent.info.experiment_id
        self._parent = parent.info.run_id
        self._children = dict(self._find_children())
        history = client.get_metric_history(self._parent, "hypervolume")
        self._steps = {metric.step for metric in history}

    @classmethod
    def open(cls, sweep: Sweep, root: Root) -> Recorder:
        """Finds the study in MLflow, or creates it there; its status stays what it is.

        Call this under the driver's lock.

        Args:
            sweep: Its name, its goals, and where the records go.
            root: Where they go by default.

        Raises:
            TrackingError: The store does not answer within a few seconds.
        """
        uri, folder = tracking_uri(sweep.tracking, root), root.study(sweep.name)
        location = artifact_location(sweep.tracking, root, sweep.name)
        root.path.mkdir(parents=True, exist_ok=True)
        client = connect(uri)
        identity, place = study_id(folder), whereabouts(folder, uri)
        with reported(uri):
            experiment = find_experiment(client, sweep.name, location)
            parent = find_parent(client, experiment, sweep.name, identity, place)
            return cls(client, uri, sweep, parent)

    def begin(self) -> None:
        """Marks the study as running."""
        with reported(self._uri):
            self._client.update_run(self._parent, "RUNNING")

    def recorded(self) -> set[int]:
        """The numbers of the trials whose record is whole."""
        return {number for number, child in self._children.items() if child.ended or child.deleted}

    def record_trial(
        self,
        number: int,
        params: Mapping[str, Any],
        outcome: Outcome,
        feasible: bool,
        artifacts: Sequence[Path],
    ) -> None:
        """Records a trial that has ended.

        Args:
            number: The trial's.
            params: The values of the searched leaves, by their dotted paths.
            outcome: How it ended.
            feasible: Whether both constraints hold.
            artifacts: Files to keep with it.
        """
        if number in self.recorded():
            return
        with reported(self._uri):
            run_id = self._child(number, outcome).run_id
            self._log(
                run_id,
                rows.metrics(outcome, self._objectives.score.rule),
                rows.params(params),
                rows.tags(outcome, feasible),
            )
            for path in artifacts:
                self._client.log_artifact(run_id, str(path))
            status = "FAILED" if outcome.state == "failed" else "FINISHED"
            self._client.set_terminated(run_id, status, rows.milliseconds(outcome.ended))
        self._children[number] = _Child(run_id, ended=True)

    def record_progress(self, hypervolume: float, best_score: float | None, step: int) -> None:
        """Records how far the study had come when a trial ended.

        Args:
            hypervolume: Of the front.
            best_score: The lowest among the feasible trials, if there are any.
            step: How many trials had ended.
        """
        if step in self._steps:
            return
        now = rows.milliseconds(time.time())
        found = [rows.Metric("hypervolume", hypervolume, now, step)]
        if best_score is not None:
            found.append(rows.Metric("best_score", best_score, now, step))
        with reported(self._uri):
            self._log(self._parent, found, {}, {})
        self._steps.add(step)

    def record_study(
        self,
        front: Sequence[Mapping[str, Any]],
        points: Sequence[Point],
        hypervolume: float,
        best_score: float | None,
        step: int,
    ) -> None:
        """Records how far the study has come.

        Args:
            front: A row per trial on the front, `trial` (its number) and whatever else is worth
                a column; the same columns in all rows.
            points: The complete and the stopped trials, for the picture.
            hypervolume: Of the front.
            best_score: The lowest among the feasible trials, if there are any.
            step: How many trials have ended.
        """
        trials = {int(row["trial"]) for row in front}
        figure = front_figure(self._name, points, trials, self._objectives)
        self.record_progress(hypervolume, best_score, step)
        with reported(self._uri):
            self._tag_front(trials)
            table = to_csv(front, ["trial", "accuracy", "score"])
            self._client.log_text(self._parent, table, "front.csv")
            self._client.log_figure(self._parent, figure, "front.png")

    def record_sweep(self, sweep_yaml: Path, environment: Mapping[str, str]) -> None:
        """Records what is run, and on what: the sweep (no passwords), versions, commit, device."""
        with reported(self._uri):
            text = masked(sweep_yaml.read_bytes().decode())
            self._client.log_text(self._parent, text, sweep_yaml.name)
            self._log(self._parent, [], {}, environment)

    def close(self, finished: bool) -> None:
        """Marks the study as finished, or as waiting for the driver's next start."""
        with reported(self._uri):
            if finished:
                self._client.set_terminated(self._parent, "FINISHED")
            else:
                self._client.update_run(self._parent, "SCHEDULED")

    def _find_children(self) -> Iterator[tuple[int, _Child]]:
        """The runs of the trials; those whose names and tags agree come first.

        A tag that was edited or deleted in MLflow is set right where the name tells the trial.
        """
        taken = set()
        for run in sorted(self._runs(), key=lambda run: len(set(_numbers(run)))):
            number = next((number for number in _numbers(run) if number not in taken), None)
            if number is None:
                continue  # a run of the user's own
            taken.add(number)
            run_id, tags = run.info.run_id, run.data.tags
            deleted = run.info.lifecycle_stage == "deleted"
            if tags.get("trial") != str(number) and not deleted:
                self._client.set_tag(run_id, "trial", str(number))
            ended = run.info.status in ("FINISHED", "FAILED")
            yield number, _Child(run_id, ended, tags.get("front"), deleted)

    def _runs(self) -> Iterator[Run]:
        """The runs below the study's."""
        from mlflow.entities import ViewType

        query, token = f"tags.`mlflow.parentRunId` = '{self._parent}'", None
        while True:
            page = self._client.search_runs(
                [self._experiment], query, ViewType.ALL, page_token=token
            )
            yield from page
            token = page.token
            if not token:
                return

    def _child(self, number: int, outcome: Outcome) -> _Child:
        """The run of a trial; name and tags are there at once, so that it is found again."""
        if number not in self._children:
            run = self._client.create_run(
                self._experiment,
                rows.milliseconds(outcome.started),
                {"mlflow.parentRunId": self._parent, "trial": str(number), "front": "false"},
                f"trial {number:04d}",
            )
            self._children[number] = _Child(run.info.run_id, ended=False)
        return self._children[number]

    def _log(
        self,
        run_id: str,
        metrics: Sequence[rows.Metric],
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        """Logs in as few calls as MLflow takes; rows that are there already stay as they are."""
        from mlflow.entities import Metric, Param, RunTag

        found = [Metric(m.key, m.value, m.timestamp, m.step) for m in metrics]
        given = [Param(key, value) for key, value in params.items()]
        labels = [RunTag(key, value) for key, value in tags.items()]
        for i in range(max(1, -(-len(found) // _METRICS), -(-len(given) // _PARAMS))):
            self._client.log_batch(
                run_id,
                found[i * _METRICS : (i + 1) * _METRICS],
                given[i * _PARAMS : (i + 1) * _PARAMS],
                () if i else labels,
            )

    def _tag_front(self, trials: set[int]) -> None:
        for number, child in self._children.items():
            front = rows.truth(number in trials)
            if front != child.front and not child.deleted:
                self._client.set_tag(child.run_id, "front", front)
                self._children[number] = _Child(child.run_id, child.ended, front)


def _numbers(run: Run) -> list[int]:
    """The trial's number as the run's name has it, which is edited least, and as its tag has it."""
    texts = (run.info.run_name or "", f"trial {run.data.tags.get('trial')}")
    found = (_NAME.fullmatch(text) for text in texts)
    return [int(match[1]) for match in found if match]
