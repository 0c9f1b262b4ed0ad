"""What MLflow is told of a study: at once, or as soon as it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from micronet_search.config.files import load_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.store.lock import driver_lock
from micronet_search.store.outcome import Outcome, read_outcomes
from micronet_search.store.paths import Root
from micronet_search.study.notes import Note, Start, read_note, read_start, write
from micronet_search.study.survey import Survey, is_feasible, score_of, survey
from micronet_search.tracking.client import TrackingError
from micronet_search.tracking.environment import environment
from micronet_search.tracking.picture import Point
from micronet_search.tracking.recorder import Recorder

PATIENCE = 10.0
"""Seconds after which a store that did not answer is asked again."""


class Records:
    """Tells MLflow what happens in a study, in its order, and once.

    What is to be told of a trial stands in its folder as `record.json` until it has been told.
    While a server does not answer, trials go on.
    """

    def __init__(
        self, sweep: Sweep, root: Root, outcomes: Mapping[int, Outcome], tell: Callable[[str], None]
    ) -> None:
        """Opens the records of a study whose lock is held.

        Args:
            sweep: Whose study it is.
            root: Where it is.
            outcomes: Of the trials that have ended, as they are by then.
            tell: Is told when MLflow stops to answer, and when it does again.
        """
        self._sweep = sweep
        self._root = root
        self._folder = root.study(sweep.name)
        self._outcomes = outcomes
        self._tell = tell
        self._recorder: Recorder | None = None
        self._is_driving = False
        self._is_told = False
        self._is_silent = False
        self._next_try = 0.0

    def begin(self, device: str) -> None:
        """Tells of the driver's start.

        Raises:
            TrackingError: The store cannot be used, and waiting will not change that.
        """
        self._is_driving = True
        write(self._folder.record, Start(environment(device)))
        self._try(self._connected)

    def post(self, number: int, params: Mapping[str, Any], found: Survey, step: int) -> None:
        """Notes what is to be told of a trial, before anything says that it has ended.

        Args:
            number: The trial's.
            params: The values of the searched leaves, by their dotted paths.
            found: What the study has found, this trial included.
            step: How many trials have ended, this one included. Their numbers would not do: with
                several slots they end in another order.
        """
        note = Note(time.time(), dict(params), step, found.hypervolume, found.best_score)
        write(self._folder.trial(number).record, note)
        self._is_told = False

    def restore(self, params_of: Callable[[int], Mapping[str, Any]]) -> None:
        """Notes once more what MLflow knows nothing of, since its database is a new one, say.

        A damaged note is made anew.
        """
        known = set(self._outcomes) if self._recorder is None else self._recorder.recorded()
        so_far: dict[int, Outcome] = {}
        for number, outcome in sorted(self._outcomes.items(), key=lambda item: item[1].ended):
            so_far[number] = outcome
            if not self._is_noted(number, number in known):
                found = survey(so_far, self._sweep.objectives)
                self.post(number, params_of(number), found, len(so_far))

    def _is_noted(self, number: int, is_known: bool) -> bool:
        """Whether nothing is to be noted of a trial, as MLflow knows it or its note is whole."""
        path = self._folder.trial(number).record
        if not path.exists():
            return is_known
        try:
            read_note(path)
        except ValueError:
            return False
        return True

    def waiting(self) -> list[int]:
        """The numbers of the trials that MLflow has not been told of, in their order.

        Raises:
            ValueError: The note of one is damaged.
        """
        notes = {number: self._folder.trial(number).record for number in self._outcomes}
        entered = {n: read_note(path).entered for n, path in notes.items() if path.exists()}
        return sorted(entered, key=lambda number: (entered[number], number))

    def deliver(self) -> None:
        """Tells MLflow what waits, unless it has just failed to answer.

        Raises:
            TrackingError: The store cannot be used, and waiting will not change that.
        """
        if not self._is_told and time.monotonic() >= self._next_try:
            self._try(self.send)

    def send(self) -> None:
        """Tells MLflow what waits.

        Raises:
            TrackingError: It does not answer; what was told before that is not told again.
        """
        self._again_where_refused(self._send)

    def _send(self) -> None:
        recorder = self._connected()
        self._recorder = None  # what fails half-way is looked up anew
        for number in self.waiting():
            files = self._folder.trial(number)
            note, outcome = read_note(files.record), self._outcomes[number]
            feasible = is_feasible(outcome, self._sweep.objectives)
            artifacts = [path for path in files.artifacts if path.exists()]
            recorder.record_trial(number, note.params, outcome, feasible, artifacts)
            recorder.record_progress(note.hypervolume, note.best_score, note.step)
            files.record.unlink()
        if self._outcomes:
            found = survey(self._outcomes, self._sweep.objectives)
            front = [self._row(number) for number in found.front]
            figures = (found.hypervolume, found.best_score, len(self._outcomes))
            recorder.record_study(front, list(self._points()), *figures)
        self._recorder, self._is_told = recorder, True

    def close(self, finished: bool) -> None:
        """Tells of the driver's end, and what still waits.

        Args:
            finished: Whether the study is, or waits for the driver's next start.

        Raises:
            TrackingError: As `deliver`.
        """
        try:
            if not self._is_told:
                self.send()
            self._again_where_refused(lambda: self._connected().close(finished))
        except TrackingError as error:
            start = read_start(self._folder.record)
            write(self._folder.record, replace(start, finished=finished))
            if not error.passing:
                raise
            self._tell(
                f"{error}; the records of {len(self.waiting())} trials wait beside them: "
                f"`micronet-search sync {self._sweep.name}` delivers them"
            )

    def _connected(self) -> Recorder:
        if self._recorder is None:
            recorder = Recorder.open(self._sweep, self._root)
            if self._is_driving:
                recorder.begin()
            told = read_start(self._folder.record).environment
            if told is not None:
                recorder.record_sweep(self._folder.sweep, told)
            self._folder.record.unlink(missing_ok=True)
            self._recorder = recorder
        return self._recorder

    def _again_where_refused(self, action: Callable[[], None]) -> None:
        """A run that was deleted in MLflow meanwhile comes back when the study is opened anew."""
        was_open = self._recorder is not None
        try:
            action()
        except TrackingError as error:
            if error.passing or not was_open:
                raise
            self._recorder = None
            action()

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except TrackingError as error:
            if not error.passing:
                raise
            self._recorder = None
            self._next_try = time.monotonic() + PATIENCE
            if not self._is_silent:
                self._tell(f"{error}; trials go on, and what is to be recorded waits beside them")
            self._is_silent = True
        else:
            if self._is_silent:
                self._tell("MLflow answers again")
            self._is_silent = False

    def _row(self, number: int) -> dict[str, Any]:
        outcome = self._outcomes[number]
        return {
            "trial": number,
            "accuracy": outcome.accuracy,
            "score": score_of(outcome, self._sweep.objectives),
            "parameters": outcome.parameters,
            "nonzeros": outcome.nonzeros,
            "macs": outcome.macs,
        }

    def _points(self) -> Iterator[Point]:
        goals = self._sweep.objectives
        for number, outcome in sorted(self._outcomes.items()):
            if outcome.accuracy is not None:
                score, feasible = score_of(outcome, goals), is_feasible(outcome, goals)
                yield Point(number, outcome.accuracy, score, feasible)


def sync(root: Root, name: str) -> int:
    """Delivers what a study's driver could not tell MLflow.

    Returns:
        How many trials were told of.

    Raises:
        ValueError: There is no such study, its driver runs, what waits is damaged, or MLflow does
            not answer.
    """
    folder = root.started(name)
    sweep = load_sweep(folder.sweep)
    with driver_lock(folder):
        records = Records(sweep, root, read_outcomes(folder, sweep.objectives.score.rule), print)
        count = len(records.waiting())
        finished = read_start(folder.record).finished
        records.send()
        if finished is not None:
            records.close(finished)
    return count
