"""MLflow's record of one study, as it is written."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micronet_search.config.sweep import Sweep
from micronet_search.store.files import to_csv
from micronet_search.store.outcome import Outcome
from micronet_search.store.owner import study_id
from micronet_search.store.paths import Root
from micronet_search.tracking.client import (
    artifact_location,
    connect,
    masked,
    reported,
    tracking_uri,
)
from micronet_search.tracking.picture import Point, front_figure
from micronet_search.tracking.runs import find_parent, find_trials, is_deleted

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

# MLflow takes 1000 rows a call, of which 100 params and 100 tags at most.
_METRICS, _PARAMS = 800, 100
# Characters of a value that MLflow takes; whole it stands in the trial's files.
MAX_PARAM, MAX_TAG = 6000, 8000


class Recorder:
    """Writes one study's record: an experiment, a parent run, and a run below it for every trial.

    Recording the same again doubles nothing. Every method raises `TrackingError` where MLflow
    fails. A new recorder then finds what is there: `recorded` has the trials whose run is complete,
    or was deleted by the user, and `steps` the steps of the study's progress.
    """

    def __init__(self, sweep: Sweep, root: Root) -> None:
        """Finds the study in MLflow, or creates it there; call it under the driver's lock."""
        self._name, self._objectives = sweep.name, sweep.objectives
        self._uri = uri = tracking_uri(sweep.tracking, root)
        location = artifact_location(sweep.tracking, root, sweep.name)
        root.path.mkdir(parents=True, exist_ok=True)
        self._client = client = connect(uri)
        folder = root.study(sweep.name)
        identity = study_id(folder)
        with reported(uri):
            parent = find_parent(client, uri, location, folder, identity)
            self._experiment, self._parent = parent.info.experiment_id, parent.info.run_id
            self._status = parent.info.status
            self._trials = find_trials(client, parent)
            history = client.get_metric_history(self._parent, "hypervolume")
        self._front: Sequence[Mapping[str, Any]] | None = None  # that was recorded last
        self.steps = {metric.step for metric in history}
        self.recorded = {
            number
            for number, run in self._trials.items()
            if is_deleted(run) or run.info.status in ("FINISHED", "FAILED")
        }

    def record_start(self, sweep_yaml: Path, environment: Mapping[str, str]) -> None:
        """Records what is run, without passwords, and what it runs on."""
        with reported(self._uri):
            text = masked(sweep_yaml.read_bytes().decode())
            self._client.log_text(self._parent, text, sweep_yaml.name)
            self._log(self._parent, tags=environment)

    def record_status(self, status: str) -> None:
        """Records the study as RUNNING, as SCHEDULED (it waits for a start) or as FINISHED."""
        if status == self._status:
            return
        with reported(self._uri):
            if status == "FINISHED":
                self._client.set_terminated(self._parent, status)
            else:
                self._client.update_run(self._parent, status)
        self._status = status

    def record_trial(
        self,
        number: int,
        choices: Mapping[str, Any],
        outcome: Outcome,
        feasible: bool,
        artifacts: Sequence[Path],
    ) -> None:
        """Records a trial that has ended, unless it is recorded.

        The choices are the values of the searched leaves, by their dotted paths; the artifacts are
        files to keep with the trial.
        """
        if number in self.recorded:
            return
        tags = _tags(outcome, feasible)
        with reported(self._uri):
            if number not in self._trials:
                # the name and the tag are what the run is found by
                known = {"mlflow.parentRunId": self._parent, "trial": str(number), "front": "false"}
                place = self._experiment, _milliseconds(outcome.started), known | tags
                self._trials[number] = self._client.create_run(*place, f"trial {number:04d}")
                tags = {}
            run_id = self._trials[number].info.run_id
            metrics = _metrics(outcome, self._objectives.score.rule)
            self._log(run_id, metrics, _params(choices), tags)
            for path in artifacts:
                self._client.log_artifact(run_id, str(path))
            status = "FAILED" if outcome.state == "failed" else "FINISHED"
            self._client.set_terminated(run_id, status, _milliseconds(outcome.ended))
        self.recorded.add(number)

    def record_progress(
        self, step: int, now: float, hypervolume: float, best_score: float | None
    ) -> None:
        """Records how far the study had come, at Unix time `now`, when `step` trials had ended.

        The best score is the lowest among the feasible trials by then, if there were any.
        """
        from mlflow.entities import Metric

        found = {"hypervolume": hypervolume, "best_score": best_score}
        place = _milliseconds(now), step
        with reported(self._uri):
            metrics = [Metric(key, n, *place) for key, n in found.items() if n is not None]
            self._log(self._parent, metrics)
        self.steps.add(step)

    def record_front(self, table: Sequence[Mapping[str, Any]]) -> None:
        """Records which trials are on the front: a row for each, its number under `trial`."""
        if table == self._front:
            return
        front = {int(row["trial"]) for row in table}
        with reported(self._uri):
            for number, run in self._trials.items():
                tags, tag = run.data.tags, truth(number in front)
                if tags.get("front") != tag and not is_deleted(run):
                    self._client.set_tag(run.info.run_id, "front", tag)
                    tags["front"] = tag
            text = to_csv(table, ["trial", "accuracy", "score"])
            self._client.log_text(self._parent, text, "front.csv")
        self._front = table

    def record_picture(self, points: Sequence[Point], front: Sequence[int]) -> None:
        """Records the picture of the complete and stopped trials, with those on the front."""
        figure = front_figure(self._name, points, front, self._objectives)
        with reported(self._uri):
            self._client.log_figure(self._parent, figure, "front.png")

    def _log(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Logs in as few calls as MLflow takes; rows that are there already stay as they are."""
        from mlflow.entities import RunTag

        labels = [RunTag(key, value) for key, value in (tags or {}).items()]
        for i in range(max(1, -(-len(metrics) // _METRICS), -(-len(params) // _PARAMS))):
            self._client.log_batch(
                run_id,
                metrics[i * _METRICS : (i + 1) * _METRICS],
                params[i * _PARAMS : (i + 1) * _PARAMS],
                () if i else labels,
            )


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)


def _metrics(outcome: Outcome, rule: str) -> list[Metric]:
    """Returns the metrics of a trial, without those that are missing or not finite.

    They follow from the outcome alone, times included, so that a trial which is recorded twice
    gives the same rows. The study minimises the score of the rule.
    """
    from mlflow.entities import Metric

    own, seconds = outcome.scores.get(rule, {}), outcome.seconds
    totals: dict[str, int | float | None] = {**outcome.totals()}
    bits = totals.pop("storage_bits")
    once = {
        "accuracy": outcome.accuracy,
        "score": own.get("score"),
        "score.parameters": own.get("parameters"),
        "score.operations": own.get("operations"),
        **{f"score.{name}": found.get("score") for name, found in outcome.scores.items()},
        **totals,
        "storage_bytes": None if bits is None else bits / 8,
        "seconds": sum(seconds.values()) if seconds else None,
        **{f"seconds.{stage}": spent for stage, spent in seconds.items()},
    }
    found = [(key, value, outcome.ended, 0) for key, value in once.items()]
    for row in outcome.curve:
        found.append(("train.loss", row.loss, row.ended, row.epoch))
        found.append(("validation.accuracy", row.accuracy, row.ended, row.epoch))
    return [
        Metric(key, float(value), _milliseconds(time), step)
        for key, value, time, step in found
        if value is not None and math.isfinite(value)
    ]


def _params(choices: Mapping[str, Any]) -> list[Param]:
    """Returns the searched choices as texts; what is no text as compact JSON, as in Optuna."""
    from mlflow.entities import Param

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    return [Param(name, text(value)[:MAX_PARAM]) for name, value in choices.items()]


def _tags(outcome: Outcome, feasible: bool) -> dict[str, str]:
    found = {"state": outcome.state, "feasible": truth(feasible), "device": outcome.device}
    if outcome.base is not None:
        found["base"] = str(outcome.base)
    if outcome.state == "stopped":
        found["rung"] = str(outcome.curve[-1].epoch)
    return found if outcome.reason is None else found | {"reason": outcome.reason[:MAX_TAG]}


def truth(value: bool) -> str:
    """Returns a truth value as a tag."""
    return "true" if value else "false"
