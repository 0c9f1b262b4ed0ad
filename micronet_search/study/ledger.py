"""What has ended: in the study's folder, in Optuna and in MLflow, in this order."""

from __future__ import annotations

import time
from pathlib import Path

import optuna
from optuna.trial import Trial, TrialState

from micronet_search.config.sweep import Sweep
from micronet_search.store.files import write_bytes, write_json
from micronet_search.store.outcome import Outcome, Result, read_outcome
from micronet_search.store.paths import StudyFolder
from micronet_search.study.progress import Progress
from micronet_search.study.records import Records
from micronet_search.study.survey import is_feasible, score_of, survey, violations


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
        records: Records,
        progress: Progress,
    ) -> None:
        """Opens the books of a study whose lock is held; the progress is kept up to date."""
        self._objectives = sweep.objectives
        self._folder = folder
        self._study = study
        self._keep_hours = sweep.search.early_stopping.keep_hours
        self._records = records
        self._progress = progress

    @property
    def _outcomes(self) -> dict[int, Outcome]:
        return self._progress.outcomes

    def enter(self, trial: Trial, result: Result) -> None:
        """Enters a trial that has just ended."""
        number = trial.number
        files = self._folder.trial(number)
        for name, content in result.files.items():
            assert Path(name).name == name, name
            write_bytes(files.path / name, content)
        self._outcomes[number] = result.outcome
        self._survey()
        self._records.post(number, trial.params, self._progress.survey, len(self._outcomes))
        write_json(files.outcome, result.outcome.to_json())
        self._tell(trial, result.outcome)
        self._records.deliver()
        self._tidy()

    def replay(self, number: int, untold: Trial | None) -> bool:
        """Reads how a trial ended, and tells Optuna where it does not know yet.

        Returns:
            Whether the trial has ended.
        """
        path = self._folder.trial(number).outcome
        if not path.exists():
            return False
        outcome = read_outcome(path, self._objectives.score.rule)
        if untold is not None:
            self._tell(untold, outcome)
        self._outcomes[number] = outcome
        return True

    def catch_up(self) -> None:
        """Records what was replayed and MLflow does not know yet."""
        self._survey()
        trials = self._study.get_trials(deepcopy=False)
        self._records.restore(lambda number: trials[number].params)
        self._records.deliver()
        self._tidy()

    def deliver(self) -> None:
        """Tells MLflow what it has not been told because it did not answer."""
        self._records.deliver()

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

    def _tidy(self) -> None:
        """Removes the checkpoints that have served their time."""
        keep = self._keep_hours
        for number, outcome in self._outcomes.items():
            over = keep is not None and time.time() - outcome.ended >= keep * 3600
            if outcome.state == "complete" or (outcome.state == "stopped" and over):
                self._folder.trial(number).checkpoint.unlink(missing_ok=True)
