"""What has ended: in the study's folder, in Optuna and in MLflow, in this order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import Trial, TrialState

from micronet_search.config.sweep import Sweep
from micronet_search.store.files import read_json, write_bytes, write_json
from micronet_search.store.outcome import Outcome, Result
from micronet_search.store.paths import StudyFolder
from micronet_search.study.progress import Progress
from micronet_search.study.survey import is_feasible, score_of, survey, violations
from micronet_search.tracking.picture import Point
from micronet_search.tracking.recorder import Recorder


class Ledger:
    """Enters how trials ended.

    `outcome.json` comes first, then Optuna, then MLflow, so that what a crash leaves can be entered
    again from the first; doing so changes nothing that is there.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: StudyFolder,
        study: optuna.Study,
        recorder: Recorder,
        progress: Progress,
    ) -> None:
        """Opens the books of a study whose lock is held; the progress is kept up to date."""
        self._objectives = sweep.objectives
        self._folder = folder
        self._study = study
        self._recorder = recorder
        self._progress = progress

    @property
    def _outcomes(self) -> dict[int, Outcome]:
        return self._progress.outcomes

    def enter(self, trial: Trial, result: Result) -> None:
        """Enters a trial that has just ended."""
        number = trial.number
        files = self._folder.trial(number)
        for name, content in result.files.items():
            write_bytes(files.path / name, content)
        write_json(files.outcome, result.outcome.to_json())
        self._tell(trial, result.outcome)
        self._outcomes[number] = result.outcome
        self._survey()
        self._record_trial(number)
        self._record_study(number)
        self._tidy(number)

    def replay(self, number: int, untold: Trial | None) -> bool:
        """Reads how a trial ended, and tells Optuna where it does not know yet.

        Returns:
            Whether the trial has ended.
        """
        path = self._folder.trial(number).outcome
        if not path.exists():
            return False
        outcome = Outcome.from_json(read_json(path))
        if untold is not None:
            self._tell(untold, outcome)
        self._outcomes[number] = outcome
        self._tidy(number)
        return True

    def catch_up(self) -> None:
        """Records what was replayed and MLflow does not know yet."""
        self._survey()
        for number in sorted(self._outcomes.keys() - self._recorder.recorded()):
            self._record_trial(number)
        if self._outcomes:
            # a crash may have come between a trial's record and the study's
            self._record_study(max(self._outcomes))

    def line(self, number: int) -> str:
        """How a trial ended, for the log."""
        outcome = self._outcomes[number]
        text = f"trial {number} {outcome.state}"
        if outcome.accuracy is not None:
            score = score_of(outcome, self._objectives)
            text += f": accuracy {outcome.accuracy:.4f}, score {score:.6f}"
            text += ", feasible" if is_feasible(outcome, self._objectives) else ""
        text += ", on the front" if number in self._progress.survey.front else ""
        return text + (f": {outcome.reason}" if outcome.reason else "")

    def _tell(self, trial: Trial, outcome: Outcome) -> None:
        """Tells Optuna; a trial's first constraints win, so telling again changes nothing."""
        for name, violation in violations(outcome, self._objectives).items():
            trial.set_constraint(name, violation)
        if outcome.state == "complete":
            assert outcome.accuracy is not None
            self._study.tell(trial, [outcome.accuracy, score_of(outcome, self._objectives)])
        else:
            stopped = outcome.state == "stopped"
            self._study.tell(trial, state=TrialState.PRUNED if stopped else TrialState.FAIL)

    def _survey(self) -> None:
        self._progress.survey = survey(self._outcomes, self._objectives)

    def _record_trial(self, number: int) -> None:
        outcome = self._outcomes[number]
        params = self._study.get_trials(deepcopy=False)[number].params
        feasible = is_feasible(outcome, self._objectives)
        artifacts = list(self._artifacts(number))
        self._recorder.record_trial(number, params, outcome, feasible, artifacts)

    def _artifacts(self, number: int) -> Iterator[Path]:
        files = self._folder.trial(number)
        everything = (files.candidate, files.outcome, files.curve, files.layers, files.model)
        return (path for path in (*everything, files.traceback) if path.exists())

    def _record_study(self, number: int) -> None:
        """Records the study as it is after a trial."""
        found = self._progress.survey
        self._recorder.record_study(
            [self._row(n) for n in found.front],
            list(self._points()),
            found.hypervolume,
            found.best_score,
            number,
        )

    def _row(self, number: int) -> dict[str, Any]:
        outcome = self._outcomes[number]
        return {
            "trial": number,
            "accuracy": outcome.accuracy,
            "score": score_of(outcome, self._objectives),
            "parameters": outcome.parameters,
            "nonzeros": outcome.nonzeros,
            "macs": outcome.macs,
        }

    def _points(self) -> Iterator[Point]:
        for number, outcome in sorted(self._outcomes.items()):
            if outcome.accuracy is not None:
                score = score_of(outcome, self._objectives)
                feasible = is_feasible(outcome, self._objectives)
                yield Point(number, outcome.accuracy, score, feasible)

    def _tidy(self, number: int) -> None:
        """Removes the checkpoint of a trial that needs none any more."""
        if self._outcomes[number].state == "complete":
            self._folder.trial(number).checkpoint.unlink(missing_ok=True)
