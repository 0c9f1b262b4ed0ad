"""The trials that have ended: in the study's folder, in Optuna and in MLflow, in this order."""

import time
from dataclasses import replace

import optuna
from optuna.trial import Trial, TrialState

from micronet_search.config.sweep import Sweep
from micronet_search.store.outcome import Outcome, Result, read_outcome, write_result
from micronet_search.store.paths import StudyFolder
from micronet_search.study.bases import base_of
from micronet_search.study.progress import Progress
from micronet_search.study.projection import Projection
from micronet_search.study.survey import score_of, violations


class Ledger:
    """Enters trials that have ended.

    `outcome.json` comes first, then Optuna, then MLflow, so that a crash in between is repaired
    from the file. Entering a trial again changes nothing.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: StudyFolder,
        study: optuna.Study,
        projection: Projection,
        progress: Progress,
    ) -> None:
        """Takes over the ledger of a study whose lock is held, and keeps its progress."""
        self._objectives = sweep.objectives
        self._folder = folder
        self._study = study
        self._keep_hours = sweep.search.early_stopping.keep_hours
        self._projection = projection
        self._progress = progress
        # the Unix times at which the checkpoints of trials that have ended go
        self._kept_until: dict[int, float] = {}

    def enter(self, trial: Trial, result: Result) -> None:
        """Enters a trial that has just ended."""
        number, outcome = trial.number, replace(result.outcome, base=base_of(trial))
        write_result(self._folder.trial(number), replace(result, outcome=outcome))
        self._add(number, outcome)
        self._tell(trial, outcome)
        self.catch_up()

    def replay(self, number: int, untold: Trial | None) -> bool:
        """Enters a trial of an earlier start, if it has ended.

        Args:
            number: The trial's.
            untold: The trial, if Optuna has not been told how it ended.

        Returns:
            Whether it has ended.

        Raises:
            ValueError: Its `outcome.json` is damaged.
        """
        path = self._folder.trial(number).outcome
        if not path.exists():
            return False
        outcome = read_outcome(path, self._objectives.score.rule)
        if untold is not None:
            self._tell(untold, outcome)
        self._add(number, outcome)
        return True

    def catch_up(self) -> None:
        """Brings MLflow and the checkpoints up to date with what was entered."""
        self._projection.update()
        self._tidy()

    def _add(self, number: int, outcome: Outcome) -> None:
        self._progress.add(number, outcome, self._objectives)
        if outcome.state == "complete":
            self._kept_until[number] = 0.0
        elif outcome.state == "stopped" and self._keep_hours is not None:
            self._kept_until[number] = outcome.ended + self._keep_hours * 3600

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

    def _tidy(self) -> None:
        """Removes the checkpoints that are not needed any more."""
        now = time.time()
        for number in [number for number, end in self._kept_until.items() if now >= end]:
            self._folder.trial(number).checkpoint.unlink(missing_ok=True)
            del self._kept_until[number]
