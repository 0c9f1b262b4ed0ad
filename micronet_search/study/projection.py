"""MLflow as a projection of what is in a study's folder."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TypeVar

import optuna
from optuna.exceptions import StorageInternalError

from micronet_search.config.files import load_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.store.outcome import Outcome, read_repeats
from micronet_search.store.paths import Root
from micronet_search.study.exports import record_exports
from micronet_search.study.repeats import record_repeats
from micronet_search.study.resume import training_digest
from micronet_search.study.start import Start, environment, migrate, read_start, write_start
from micronet_search.study.survey import Survey, dots, extended, front_row, is_feasible
from micronet_search.tracking.client import TrackingError
from micronet_search.tracking.facts import sentence
from micronet_search.tracking.recorder import Recorder

PATIENCE = 10.0
"""Seconds after which a store that did not answer is asked again."""

REDRAW = 60.0
"""Seconds for which a picture of the front stands while the driver runs."""

T = TypeVar("T")


class Projection:
    """Brings MLflow up to date with a study's folder.

    MLflow is asked once what it has, and again after a failure. What it lacks is recorded in the
    order in which trials ended. While it does not answer, trials go on.

    Attributes:
        repeats: The outcomes of the repeats that have ended; who runs them adds to it.
    """

    def __init__(
        self,
        sweep: Sweep,
        root: Root,
        study: optuna.Study,
        outcomes: Mapping[int, Outcome],
        tell: Callable[[str], None],
    ) -> None:
        """Takes over the projection of a study whose lock is held.

        Args:
            sweep: The study's sweep.
            root: The root that holds its folder.
            study: Optuna's study, which knows the choices of every trial.
            outcomes: The outcomes of the trials that have ended; the driver adds to it.
            tell: Prints a line when MLflow stops answering, and when it answers again.
        """
        self._sweep, self._root, self._folder = sweep, root, root.study(sweep.name)
        self._study = study
        self._outcomes = outcomes
        self.repeats = read_repeats(self._folder, sweep.objectives.score.rule)
        self._tell = tell
        self._recorder: Recorder | None = None
        # the trials that MLflow had when it last answered; None if that is not known
        self._known: set[int] | None = None if self._folder.ended() else set()
        self._start: Start | None = None  # the driver's; None in `sync`
        self._is_silent = False
        self._next_try = self._next_picture = 0.0
        self._drawn = 0  # how many trials the picture of the front is of
        # the trials whose progress is recorded, what they have found, and when the last one ended
        self._counted: set[int] = set()
        self._found, self._latest = Survey(), 0.0
        migrate(self._folder)

    def begin(self, device: str) -> None:
        """Records that the driver runs, and on what.

        Raises:
            TrackingError: MLflow refuses, and waiting would not help.
        """
        self._start = Start(environment(device))
        write_start(self._folder, self._start)
        self._try(self._record_status)

    def update(self) -> None:
        """Brings MLflow up to date, unless it is already or did not answer a moment ago.

        Raises:
            TrackingError: MLflow refuses, and waiting would not help.
        """
        is_old = (
            self._recorder is None
            or len(self._counted) != len(self._outcomes)
            or len(self._recorder.repeated) < len(self.repeats)
        )
        if time.monotonic() >= self._next_try and (is_old or self._picture_is_due()):
            self._try(self._project)

    def flush(self) -> int:
        """Brings MLflow up to date at once, with a new picture and what was exported.

        Returns:
            How many trials it lacked.

        Raises:
            TrackingError: MLflow does not answer, or refuses.
        """
        self._next_picture = 0.0
        lacked = self._with_recorder(self._project)
        self._with_recorder(lambda recorder: record_exports(recorder, self._folder))
        return lacked

    def close(self, finished: bool) -> None:
        """Brings MLflow up to date at the driver's end.

        Args:
            finished: Whether the study is, or waits for the driver's next start.

        Raises:
            TrackingError: MLflow refuses, and waiting would not help.
        """
        self._start = replace(self._start or Start(), finished=finished)
        write_start(self._folder, self._start)
        self.deliver()

    def deliver(self) -> None:
        """Brings MLflow up to date at once, or says what waits for it where it does not answer.

        Raises:
            TrackingError: MLflow refuses, and waiting would not help.
        """
        try:
            self._with_recorder(self._record_status)
            if len(self._outcomes) < len(self._folder.ended()):
                return  # a damaged file has ended the driver before it knew them all
            with suppress(StorageInternalError):  # the driver ends for it, and says so
                self.flush()
        except TrackingError as error:
            if not error.passing:
                raise
            count = len(self._outcomes.keys() - (self._known or ()))
            self._tell(
                f"{error}; the records of {'up to ' if self._known is None else ''}{count} trials "
                f"wait beside them: `micronet-search sync {self._sweep.name}` delivers them"
            )

    def _try(self, action: Callable[[Recorder], object]) -> None:
        """Runs an action on the recorder; a line says when an outage begins, and when it ends."""
        try:
            self._with_recorder(action)
        except TrackingError as error:
            if not error.passing:
                raise
            self._next_try = time.monotonic() + PATIENCE
            if not self._is_silent:
                self._tell(f"{error}; trials go on, and what is to be recorded waits beside them")
            self._is_silent = True
        else:
            if self._is_silent:
                self._tell("MLflow answers again")
            self._is_silent = False

    def _with_recorder(self, action: Callable[[Recorder], T]) -> T:
        """Runs an action on the recorder, which is opened anew after a failure.

        MLflow refuses what concerns a run that a user has deleted meanwhile. Opening the recorder
        restores that run, so the action is tried once more.
        """
        was_open = self._recorder is not None
        recorder = self._recorder or self._open()
        self._recorder = None
        try:
            result = action(recorder)
        except TrackingError as error:
            if error.passing or not was_open:
                raise
            return self._with_recorder(action)
        self._recorder = recorder
        return result

    def _open(self) -> Recorder:
        recorder = Recorder(self._sweep, self._root)
        self._known = recorder.recorded
        self._drawn, self._counted = 0, set()
        self._found, self._latest = Survey(), 0.0
        known = (self._start or read_start(self._folder)).environment or {}
        recorder.record_start(self._folder.sweep, known, training_digest(self._folder))
        self._record_status(recorder)
        return recorder

    def _record_status(self, recorder: Recorder) -> None:
        """Records that the driver runs, or how it ended; nothing after a kill."""
        start = self._start or read_start(self._folder)
        if start.finished is not None:
            recorder.record_status("FINISHED" if start.finished else "SCHEDULED")
        elif self._start is not None:
            recorder.record_status("RUNNING")

    def _project(self, recorder: Recorder) -> int:
        """Records what MLflow lacks, and returns how many trials it lacked.

        The trials that MLflow has are counted first, so that a trial which arrives late changes no
        step that is recorded already.
        """
        goals, ended = self._sweep.objectives, self._outcomes
        lacking = ended.keys() - recorder.recorded
        trials = self._study.get_trials(deepcopy=False) if lacking else []
        new = ended.keys() - self._counted
        order = sorted(new, key=lambda number: (number in lacking, ended[number].ended, number))
        for step, number in enumerate(order, len(self._counted) + 1):
            outcome = ended[number]
            if number in lacking:
                feasible = is_feasible(outcome, goals)
                files, params = self._folder.trial(number), trials[number].params
                known = files.candidate.exists()
                note = sentence(load_candidate(files.candidate), outcome) if known else ""
                recorder.record_trial(number, params, outcome, feasible, files.artifacts, note)
            self._counted.add(number)
            self._found = found = extended(self._found, number, ended, goals)
            self._latest = max(self._latest, outcome.ended)
            if step not in recorder.steps:
                recorder.record_progress(step, self._latest, found.hypervolume, found.best_score)
        self._show(recorder)
        return len(lacking)

    def _show(self, recorder: Recorder) -> None:
        """Records the front, with what its repeats say, and its picture if that is due."""
        confirmed = record_repeats(recorder, self._sweep, self._folder, self.repeats)
        outcomes, goals, front = self._outcomes, self._sweep.objectives, self._found.front
        if outcomes:
            sure = [n for n, found in confirmed.items() if found["confirmed"] and n in outcomes]
            rows = {
                n: front_row(n, outcomes[n], goals) | confirmed.get(n, {}) for n in (*front, *sure)
            }
            best = min(sure or front, key=lambda n: (rows[n]["score"], n), default=None)
            recorder.record_front(
                [rows[n] for n in front],
                lambda n: n in outcomes and is_feasible(outcomes[n], goals),
                None if best is None else rows[best],
            )
        if self._picture_is_due():
            recorder.record_picture(dots(outcomes, goals), front)
            self._drawn, self._next_picture = len(outcomes), time.monotonic() + REDRAW

    def _picture_is_due(self) -> bool:
        return self._drawn != len(self._outcomes) and time.monotonic() >= self._next_picture
