"""The driver: the one process that owns a study, asks, decides, tells and records."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from micronet_search.config.files import dump_yaml
from micronet_search.config.sweep import Sweep
from micronet_search.engine.work import (
    Crashed,
    Ended,
    Engine,
    Event,
    Job,
    Left,
    Order,
    Reached,
    Stop,
    Trained,
)
from micronet_search.search.screening import SCREENED
from micronet_search.search.stopping import Standing, finished, verdict
from micronet_search.store.files import read_json, write_bytes, write_json, write_text
from micronet_search.store.outcome import TRACEBACK, Epoch, Result, lost
from micronet_search.store.paths import Root, StudyFolder, TrialFolder
from micronet_search.study.draws import Draws
from micronet_search.study.ledger import Ledger
from micronet_search.study.progress import Observer, Progress, Running
from micronet_search.study.projection import Projection
from micronet_search.study.teachers import Teachers

PAUSING = (signal.SIGINT, signal.SIGTERM)
"""Signals that pause a study: Ctrl-C's, and that of `kill`, SLURM and a shutdown."""


class Driver:
    """Asks for candidates, screens them, runs them in slots, and decides at rungs."""

    def __init__(
        self,
        sweep: Sweep,
        root: Root,
        study: optuna.Study,
        engine: Engine,
        projection: Projection,
        teachers: Teachers,
        progress: Progress,
        observe: Observer,
    ) -> None:
        """Takes over a study whose lock is held."""
        self.sweep = sweep
        self.folder = root.study(sweep.name)
        self.study = study
        self.engine = engine
        self.progress = progress
        self.observe = observe
        self._teachers = teachers
        self._ledger = Ledger(sweep, self.folder, study, projection, progress)
        self._draws = Draws(sweep, study, progress, self._report)
        self._trials: dict[int, Trial] = {}
        self._rungs: dict[int, dict[int, tuple[float, float]]] = {}
        self._unfinished: list[Trial] = []
        self._students: dict[int, list[Trial]] = {}
        self._tries: Counter[tuple[int, int]] = Counter()
        self._furthest: Counter[int] = Counter()
        self._pausing = False
        self._spent = _seconds_spent(self.folder)
        self._started = time.monotonic()

    def run(self) -> bool:
        """Goes on until the totals are reached.

        Returns:
            Whether the study is finished; False where it was paused by Ctrl-C or the hours.
        """
        with self._interruptible():
            try:
                if known := len(self.folder.ended()):
                    self._enter_phase(f"reading trials: {known} so far")
                self._unfinished = self._repair()
                self._enter_phase("starting")
                self._loop()
            finally:
                self._save_clock()
        is_finished = (
            self._draws.are_exhausted or len(self.progress.outcomes) >= self.progress.total
        )
        if not is_finished:
            self.progress.paused = "interrupt" if self._pausing else "hours"
        return is_finished

    def _loop(self) -> None:
        while True:
            while self._has_room() and not self._is_over():
                trial = self._next()
                if trial is not None:
                    self._start(trial)
            if not self.engine.running and self._is_over():
                return
            if self._must_pause():
                self.engine.pause()
            heard = self.engine.wait()
            if heard is not None:
                self._handle(*heard)
            self._ledger.deliver()

    def _next(self) -> Trial | None:
        return self._unfinished.pop(0) if self._unfinished else self._draws.take(self._must_pause)

    def _has_room(self) -> bool:
        """Whether a slot is free, and not kept for a student whose teacher is trained."""
        return max(len(self.engine.running), self._begun()) < self.engine.slots

    def _begun(self) -> int:
        """Trials that hold a slot, or will when their teacher is trained."""
        waiting = sum(map(len, self._students.values()))
        return waiting + sum(number >= 0 for number in self.engine.running)

    def _is_over(self) -> bool:
        """Whether no further trial is to be started."""
        begun = len(self.progress.outcomes) + self._begun()
        if begun >= self.progress.total or self._must_pause():
            return True
        return self._draws.are_exhausted and not self._unfinished

    def _must_pause(self) -> bool:
        hours = self.sweep.search.hours
        return self._pausing or (hours is not None and self._seconds() >= hours * 3600)

    def _seconds(self) -> float:
        return float(self._spent + time.monotonic() - self._started)

    def _save_clock(self) -> None:
        write_json(self.folder.clock, {"seconds": self._seconds()})

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM pauses after the epoch; the second leaves at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def pause(*_: object) -> None:
            self._pausing = True
            for name in PAUSING:
                signal.signal(name, signal.default_int_handler)
            with suppress(RuntimeError):  # it came in the middle of another line
                self._report("pausing after this epoch; Ctrl-C again leaves at once")

        before = {name: signal.signal(name, pause) for name in PAUSING}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)

    # --- what is there already ---

    def _repair(self) -> list[Trial]:
        """Replays what ended, and returns the trials that a stop or a crash left unfinished."""
        unfinished: list[Trial] = []
        for frozen in self.study.get_trials(deepcopy=False):
            running = frozen.state == TrialState.RUNNING
            if running and SCREENED in frozen.user_attrs:
                self.study.tell(frozen.number, state=TrialState.PRUNED)
            if frozen.state == TrialState.WAITING or SCREENED in frozen.user_attrs:
                continue
            self._remember(frozen)
            trial = self._trials.get(frozen.number)
            if not self._ledger.replay(frozen.number, trial) and trial is not None:
                if "digest" in frozen.user_attrs:
                    unfinished.append(trial)
                else:
                    self._draws.give_back(trial)
        self._ledger.catch_up()
        return unfinished

    def _remember(self, frozen: FrozenTrial) -> None:
        number, known = frozen.number, frozen.user_attrs
        if "digest" in known:
            self._draws.remember(known["digest"], number)
        for rung, point in known.get("rungs", {}).items():
            self._rungs.setdefault(int(rung), {})[number] = tuple(point)
        if frozen.state == TrialState.RUNNING:
            self._trials[number] = Trial(self.study, frozen._trial_id)

    # --- from a draw to a slot ---

    def _start(self, trial: Trial) -> None:
        self.progress.phase = None
        number, candidate = trial.number, self._draws.candidate(trial)
        self._trials[number] = trial
        files = self.folder.trial(number)
        write_text(files.candidate, dump_yaml(candidate.model_dump(mode="json")))
        failure = self._teachers.failure(candidate)
        if failure is not None:
            self._fail(trial, failure)
            return
        teacher = self._teachers.job(candidate)
        if teacher is not None:
            self._students.setdefault(teacher.number, []).append(trial)
            if teacher.number not in self.engine.running:
                self.engine.start(teacher)
                self.progress.running[teacher.number] = Running()
            self._report(f"trial {number} waits for its teacher to be trained")
            return
        self.engine.start(
            Job(
                number=number,
                candidate=candidate,
                seed=_trial_seed(self.sweep.search.seed, number),
                stops=tuple(self.sweep.search.early_stopping.rungs(candidate.training.epochs)),
                checkpoint=files.checkpoint.read_bytes() if files.checkpoint.exists() else None,
                teacher=self._teachers.content(candidate),
                checkpoint_minutes=self.sweep.execution.checkpoint_minutes,
            )
        )
        self.progress.running[number] = Running()
        self._report(None)

    # --- what slots say ---

    def _handle(self, number: int, event: Event) -> None:
        match event:
            case Trained(row, epochs):
                self.progress.running[number] = Running(row.epoch, epochs, row.accuracy)
                self._report(None)
            case Reached(row, checkpoint):
                write_bytes(self._files(number).checkpoint, checkpoint)
                self._save_clock()
                self._furthest[number] = max(self._furthest[number], row.epoch)
                order: Order = "go" if number < 0 else self._decide(number, row)
                if order == "go" and self._must_pause():
                    self._free(number)
                    self._report(f"{self._name(number)} paused after epoch {row.epoch}")
                else:
                    self.engine.order(number, order)
            case Ended(result):
                self._free(number)
                self._enter(number, result)
            case Crashed(result, damaged):
                self._free(number)
                self._try_again(number, result, damaged)
            case Left(reason):
                self._free(number)
                self._unfinished[:0] = self._holders(number)
                self._report(f"{self._name(number)}: {reason}; it goes on from its checkpoint")

    def _files(self, number: int) -> TrialFolder:
        return self._teachers.folder(number) if number < 0 else self.folder.trial(number)

    def _name(self, number: int) -> str:
        return f"trial {number}" if number >= 0 else f"teacher {self._files(number).path.name}"

    def _free(self, number: int) -> None:
        self.engine.release(number)
        del self.progress.running[number]

    def _holders(self, number: int) -> list[Trial]:
        """The trials that a slot worked for: its own, or all students of its teacher."""
        return [self._trials[number]] if number >= 0 else self._students.pop(number, [])

    def _enter(self, number: int, result: Result) -> None:
        """Enters what a slot has left."""
        self._save_clock()
        if number >= 0:
            self._ledger.enter(self._trials[number], result)
            self._report(self._ledger.line(number))
            return
        failure = self._teachers.enter(number, result)
        accuracy = result.outcome.accuracy
        news = "failed" if failure is not None else f"accuracy {accuracy:.4f}"
        self._report(f"{self._name(number)}: {news}")
        students = self._holders(number)
        if failure is None:
            self._unfinished[:0] = students
            return
        for trial in students:
            self._fail(trial, failure)

    def _fail(self, trial: Trial, reason: str) -> None:
        """Enters a trial whose teacher failed."""
        self._ledger.enter(trial, lost(reason))
        self._report(self._ledger.line(trial.number))

    def _try_again(self, number: int, result: Result, damaged: bool) -> None:
        """Has a trial that crashed go on from its checkpoint, as often as the sweep says.

        Tries count anew once the trial has come to a further checkpoint than ever before.
        """
        files = self._files(number)
        if damaged:
            files.checkpoint.unlink(missing_ok=True)
        place = number, self._furthest[number]
        self._tries[place] += 1
        if self._tries[place] > self.sweep.execution.retries:
            self._enter(number, result)
            return
        for name, content in result.files.items():
            if name == TRACEBACK:
                write_bytes(files.traceback, content)
        self._unfinished[:0] = self._holders(number)
        start = "its last checkpoint" if files.checkpoint.exists() else "the beginning"
        self._report(
            f"{self._name(number)} crashed ({result.outcome.reason}), tried again from {start}"
        )

    def _decide(self, number: int, row: Epoch) -> Order:
        """Whether a trial goes on past the rung that it has reached."""
        trial, early = self._trials[number], self.sweep.search.early_stopping
        candidate = self._draws.candidate(trial)
        epochs = candidate.training.epochs
        if not early.rule or row.epoch not in early.rungs(epochs):
            return "go"
        reached = self._rungs.setdefault(row.epoch, {})
        point = reached[number] = (row.accuracy, self._draws.predicted_score(candidate))
        passed = {rung: known[number] for rung, known in self._rungs.items() if number in known}
        trial.set_user_attr("rungs", passed)
        others = [known for other, known in reached.items() if other != number]
        standing = Standing(
            row.epoch,
            *point,
            others=np.array(others).reshape(-1, 2),
            finished=finished(self.progress.outcomes.values(), row.epoch / epochs),
        )
        reason = verdict(standing, early, self.sweep.objectives.accuracy.at_least)
        return "go" if reason is None else Stop(reason)

    # --- what the user sees ---

    def _enter_phase(self, phase: str) -> None:
        self.progress.phase = phase
        self._report(None)

    def _report(self, line: str | None) -> None:
        self.progress.seconds_left = self._seconds_left()
        self.observe(self.progress, line)

    def _seconds_left(self) -> float | None:
        """The least of what the hours leave, and of what the trials left may take."""
        bounds = []
        if self.sweep.search.hours is not None:
            bounds.append(self.sweep.search.hours * 3600 - self._seconds())
        if self.progress.outcomes:
            took = [sum(o.seconds.values()) for o in self.progress.outcomes.values()]
            left = self.progress.total - len(self.progress.outcomes)
            bounds.append(left * sum(took) / len(took) / max(1, self.engine.slots))
        return max(0.0, min(bounds)) if bounds else None


def _seconds_spent(folder: StudyFolder) -> float:
    """What the driver's earlier starts took.

    Raises:
        ValueError: The file is damaged.
    """
    if not folder.clock.exists():
        return 0.0
    match read_json(folder.clock):
        case {"seconds": int() | float() as seconds} if seconds >= 0:
            return float(seconds)
    raise ValueError(f"{folder.clock} is damaged, expected the seconds of a study")


def _trial_seed(seed: int, number: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest)
