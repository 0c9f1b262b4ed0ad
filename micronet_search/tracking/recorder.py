"""MLflow's record of one study, as it is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from micronet_search.config.sweep import Sweep
from micronet_search.store.files import to_csv
from micronet_search.store.outcome import Outcome
from micronet_search.store.owner import study_id
from micronet_search.store.paths import Root
from micronet_search.tracking import facts, notes
from micronet_search.tracking.client import (
    artifact_location,
    connect,
    masked,
    reported,
    tracking_uri,
)
from micronet_search.tracking.origin import context, dataset_input
from micronet_search.tracking.picture import Point, front_figure
from micronet_search.tracking.rows import log
from micronet_search.tracking.runs import (
    REPEAT,
    STATUS,
    find_children,
    find_parent,
    find_repeats,
    find_trials,
    is_deleted,
    is_whole,
)
from micronet_search.tracking.views import arrange

if TYPE_CHECKING:
    from mlflow.entities import Param, Run


class Recorder:
    """Writes one study's record: an experiment, a parent run, and runs below it.

    Below it is a run for every trial, and one for every repeat, tagged `confirm`.

    Recording the same again doubles nothing. Every method raises `TrackingError` where MLflow
    fails. A new recorder then finds what is there: `recorded` has the trials whose run is complete,
    or was deleted by the user, `repeated` the repeats by the names of their folders, and `steps`
    the steps of the study's progress.
    """

    def __init__(self, sweep: Sweep, root: Root) -> None:
        """Finds the study in MLflow, or creates it there; call it under the driver's lock."""
        self._sweep, self._objectives = sweep, sweep.objectives
        self._context = context({})
        self._uri = uri = tracking_uri(sweep.tracking, root)
        location = artifact_location(sweep.tracking, root, sweep.name)
        root.path.mkdir(parents=True, exist_ok=True)
        self._client = client = connect(uri)
        folder = root.study(sweep.name)
        identity = study_id(folder)
        with reported(uri):
            parent = find_parent(client, uri, location, folder, identity)
            self._experiment, self._parent = parent.info.experiment_id, parent.info.run_id
            self._status, self._begun = parent.info.status, parent.info.start_time
            self._settings = parent.data.params
            runs = find_children(client, parent)
            self._trials, self._repeats = find_trials(client, runs), find_repeats(runs)
            history = client.get_metric_history(self._parent, "hypervolume")
        self._front: Any = None  # that was recorded last, with the winner
        self.steps = {metric.step for metric in history}
        self.recorded = {number for number, run in self._trials.items() if is_whole(run)}
        self.repeated = {name for name, run in self._repeats.items() if is_whole(run)}

    def record_start(
        self, sweep_yaml: Path, environment: Mapping[str, str], digest: str | None = None
    ) -> None:
        """Records what is run, without passwords, what it runs on, and how it is looked at.

        The digest is that of the training images.
        """
        self._context = context(environment)
        settings = notes.settings(self._sweep)
        new = {name: value for name, value in settings.items() if name not in self._settings}
        with reported(self._uri):
            text = masked(sweep_yaml.read_bytes().decode())
            self._client.log_text(self._parent, text, sweep_yaml.name)
            tags = {**environment, **self._context}
            log(self._client, self._parent, params=facts.params(new), tags=tags)
            if digest is not None:
                self._client.log_inputs(self._parent, [dataset_input(self._sweep, digest)])
            arrange(self._client, self._experiment, self._sweep.space, self._begun)

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
        note: str = "",
    ) -> None:
        """Records a trial that has ended, unless it is recorded.

        The choices are the values of the searched leaves, by their dotted paths; the artifacts are
        files to keep with the trial; the note describes it.
        """
        if number in self.recorded:
            return
        # the name and the tag are what the run is found by
        known = {"trial": str(number), "front": "false", notes.NOTE: note}
        tags = known, facts.tags(outcome) | {"feasible": facts.truth(feasible)}
        name = facts.run_name(number, outcome, self._objectives.score.rule)
        params = facts.params(choices)
        self._record(self._trials, number, name, outcome, tags, artifacts, params)
        self.recorded.add(number)

    def record_repeat(
        self, name: str, trial: int, outcome: Outcome, artifacts: Sequence[Path]
    ) -> None:
        """Records a repeat of a trial that has ended, unless it is recorded.

        The name is that of its folder; the artifacts are files to keep with it.
        """
        if name in self.repeated:
            return
        known = {"confirm": "true", "confirms": str(trial)}
        tags = known, facts.tags(outcome)
        self._record(self._repeats, name, f"{REPEAT}{name}", outcome, tags, artifacts)
        self.repeated.add(name)

    def metrics_of(self, trial: int) -> dict[str, float]:
        """Returns the latest metrics of a trial that is recorded, by their names."""
        found: dict[str, float] = self._trials[trial].data.metrics
        return found

    def record_more(self, trial: int, figures: Mapping[str, Any], at: float, step: int = 0) -> None:
        """Records on a trial's run what was found since, at a Unix time, unless it is recorded.

        Truth values become tags, numbers metrics; None is left out.
        """
        from mlflow.entities import Metric

        run, known = self._trials[trial], {n: v for n, v in figures.items() if v is not None}
        tags = {n: facts.truth(v) for n, v in known.items() if isinstance(v, bool)}
        metrics = {n: float(v) for n, v in known.items() if n not in tags}
        has_metrics = metrics.items() <= run.data.metrics.items()
        if is_deleted(run) or (has_metrics and tags.items() <= run.data.tags.items()):
            return
        with reported(self._uri):
            rows = [Metric(n, v, facts.milliseconds(at), step) for n, v in metrics.items()]
            log(self._client, run.info.run_id, rows, tags=tags)
        run.data.metrics.update(metrics)
        run.data.tags.update(tags)

    def _record(
        self,
        runs: dict[Any, Run],
        key: int | str,
        name: str,
        outcome: Outcome,
        tags: tuple[dict[str, str], dict[str, str]],
        artifacts: Sequence[Path],
        params: Sequence[Param] = (),
    ) -> None:
        """Records what has ended as a run below the study's own.

        Of the tags, the first are for the run's life, and the second may be repaired by recording
        it again.
        """
        known, changing = tags
        with reported(self._uri):
            if key not in runs:
                place = self._experiment, facts.milliseconds(outcome.started)
                labels = {"mlflow.parentRunId": self._parent, **self._context, **known, **changing}
                runs[key] = self._client.create_run(*place, labels, name)
                changing = {}
            run_id, rule = runs[key].info.run_id, self._objectives.score.rule
            log(self._client, run_id, facts.metrics(outcome, rule), params, changing)
            for path in artifacts:
                self._client.log_artifact(run_id, str(path))
            ended = facts.milliseconds(outcome.ended)
            self._client.set_terminated(run_id, STATUS[outcome.state], ended)

    def record_progress(
        self, step: int, now: float, hypervolume: float, best_score: float | None
    ) -> None:
        """Records how far the study had come, at Unix time `now`, when `step` trials had ended.

        The best score is the lowest among the feasible trials by then, if there were any.
        """
        from mlflow.entities import Metric

        found = {"hypervolume": hypervolume, "best_score": best_score}
        place = facts.milliseconds(now), step
        with reported(self._uri):
            metrics = [Metric(key, n, *place) for key, n in found.items() if n is not None]
            log(self._client, self._parent, metrics)
        self.steps.add(step)

    def record_front(
        self,
        table: Sequence[Mapping[str, Any]],
        is_feasible: Callable[[int], bool],
        winner: Mapping[str, Any] | None = None,
    ) -> None:
        """Records which trials are on the front: a row for each, its number under `trial`.

        The winner is the row of the trial that `export --best` ships. Where the front has changed,
        the goals may have too: so each trial is asked for whether it is feasible, and tagged with
        that.
        """
        if (table, winner) == self._front:
            return
        front = {int(row["trial"]) for row in table}
        with reported(self._uri):
            for number, run in self._trials.items():
                note = notes.marked(run.data.tags.get(notes.NOTE, ""), number in front)
                self._retag(run, "front", facts.truth(number in front))
                self._retag(run, "feasible", facts.truth(is_feasible(number)))
                self._retag(run, notes.NOTE, note)
            note = notes.study(self._sweep, table, winner)
            log(self._client, self._parent, tags={notes.NOTE: note})
            text = to_csv(table, ["trial", "accuracy", "score"])
            self._client.log_text(self._parent, text, "front.csv")
        self._front = table, winner

    def _retag(self, run: Run, name: str, value: str) -> None:
        if run.data.tags.get(name, "") != value and not is_deleted(run):
            self._client.set_tag(run.info.run_id, name, value)
            run.data.tags[name] = value

    def record_picture(self, points: Sequence[Point], front: Sequence[int]) -> None:
        """Records the picture of the complete and stopped trials, with those on the front."""
        figure = front_figure(self._sweep.name, points, front, self._objectives)
        with reported(self._uri):
            self._client.log_figure(self._parent, figure, "front.png")
