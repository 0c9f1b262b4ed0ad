"""The driver: the one process that owns a study, asks, decides, tells and records."""

import optuna

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
    Trained,
)
from micronet_search.search.prospects import Prospects
from micronet_search.store.files import write_bytes, write_text
from micronet_search.store.outcome import TRACEBACK, Epoch, Result, lost
from micronet_search.store.paths import Root, TrialFolder
from micronet_search.study.bases import Bases
from micronet_search.study.clock import Clock
from micronet_search.study.draws import Draws
from micronet_search.study.ledger import Ledger
from micronet_search.study.progress import Observer, Progress, Running
from micronet_search.study.projection import Projection
from micronet_search.study.queue import Drawn, Queue, Tries
from micronet_search.study.repair import repair
from micronet_search.study.rungs import Rungs
from micronet_search.study.starting_points import StartingPoints
from micronet_search.study.teachers import Teachers


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
        starts: StartingPoints,
        progress: Progress,
        observe: Observer,
    ) -> None:
        """Takes over a study whose lock is held."""
        self._sweep, self._folder = sweep, root.study(sweep.name)
        self._study, self._engine = study, engine
        self._projection = projection
        self._teachers, self._starts = teachers, starts
        self._progress, self._observe = progress, observe
        self._ledger = Ledger(sweep, self._folder, study, projection, progress)
        self._queue = Queue(progress.total, progress.outcomes)
        self._draws = Draws(sweep, study, Prospects(sweep, starts.at), progress, self._report)
        self._rungs = Rungs(sweep.search.early_stopping, sweep.objectives, progress.outcomes)
        self._bases = Bases(sweep, study, self._folder, progress.outcomes)
        self._tries = Tries(sweep.execution.retries)
        self._clock = Clock(self._folder, sweep.search.hours)

    def run(self) -> bool:
        """Goes on until the totals are reached, or no better trial is to be expected.

        Returns:
            Whether the study is finished; False where it was paused by a signal or the hours.
        """
        with self._clock.interruptible(self._report):
            try:
                if known := len(self._folder.ended()):
                    self._show_phase(f"reading trials: {known} so far")
                repair(
                    self._study, self._ledger, self._draws, self._rungs, self._bases, self._queue
                )
                self._show_phase("starting")
                self._loop()
            finally:
                self._clock.save()
        is_finished = self._has_begun_all()
        if is_finished and self._progress.is_stagnant(self._sweep):
            self._report("the study ends as search.stop_when says: its hypervolume has stagnated")
        if not is_finished:
            self._progress.paused = "interrupt" if self._clock.is_interrupted else "hours"
        return is_finished

    def _loop(self) -> None:
        while True:
            while self._queue.has_room(self._engine.slots) and not self._is_over():
                self._start_next()
            if not self._queue.running and self._is_over():
                return
            if self._clock.must_pause:
                self._engine.pause()
            heard = self._engine.wait()
            if heard is not None:
                self._handle(*heard)
            self._projection.update()

    def _is_over(self) -> bool:
        return self._clock.must_pause or self._has_begun_all()

    def _has_begun_all(self) -> bool:
        """Returns whether no trial is left to begin, and none is to be drawn."""
        is_enough = self._draws.are_exhausted or self._progress.is_stagnant(self._sweep)
        return self._queue.is_full or (is_enough and not self._queue.ready)

    # --- from a draw to a slot ---

    def _start_next(self) -> None:
        if self._queue.ready:
            self._start(self._queue.ready.pop(0))
            return
        drawn = self._draws.take(self._queue.undecided, lambda: self._clock.must_pause)
        if drawn is not None:
            self._start(drawn)

    def _start(self, drawn: Drawn) -> None:
        """Gives a trial a slot, or has it wait for its teacher, or fail without what it needs."""
        self._progress.phase = None
        number, candidate = drawn.number, drawn.candidate
        files = self._folder.trial(number)
        write_text(files.candidate, dump_yaml(candidate.model_dump(mode="json")))
        failure = self._teachers.failure(candidate) or self._starts.failure(candidate)
        if failure is not None:
            self._fail(drawn, failure)
            return
        if (teacher := self._teachers.job(candidate)) is not None:
            self._queue.wait_for(teacher.number, drawn)
            if teacher.number not in self._queue.running:
                self._give_slot(teacher, None)
            self._report(f"trial {number} waits for its {teacher.product}")
            return
        self._bases.lend(drawn)
        job = Job(
            number=number,
            candidate=candidate,
            seed=drawn.seed(self._sweep.search.seed),
            stops=tuple(self._sweep.search.early_stopping.rungs(candidate.training.epochs)),
            checkpoint=files.checkpoint.read_bytes() if files.checkpoint.exists() else None,
            teacher=self._teachers.content(candidate),
            start=self._starts.content(candidate),
            checkpoint_minutes=self._sweep.execution.checkpoint_minutes,
        )
        self._give_slot(job, drawn)
        self._report(None)

    def _give_slot(self, job: Job, drawn: Drawn | None) -> None:
        self._engine.start(job)
        self._queue.running[job.number] = drawn
        self._progress.running[job.number] = Running()

    # --- what slots say ---

    def _handle(self, number: int, event: Event) -> None:
        match event:
            case Trained(row, epochs):
                self._progress.running[number] = Running(row.epoch, epochs, row.accuracy)
                self._report(None)
            case Reached(row, checkpoint):
                write_bytes(self._files(number).checkpoint, checkpoint)
                self._clock.save()
                self._tries.reach(number, row.epoch)
                self._answer(number, row)
            case Ended(result):
                self._enter(number, self._release(number), result)
            case Crashed(result, damaged):
                self._try_again(number, self._release(number), result, damaged)
            case Left(reason):
                self._queue.make_ready(self._release(number))
                self._report(f"{self._name(number)}: {reason}; it goes on from its checkpoint")

    def _answer(self, number: int, row: Epoch) -> None:
        """Tells a job at its checkpoint to go on or to stop; on a pause it loses its slot."""
        drawn = self._queue.running[number]
        order: Order = "go" if drawn is None else self._rungs.order(drawn, row)
        if order == "go" and self._clock.must_pause:
            self._queue.make_ready(self._release(number))
            self._report(f"{self._name(number)} paused after epoch {row.epoch}")
        else:
            self._engine.order(number, order)

    def _release(self, number: int) -> list[Drawn]:
        """Frees the slot of a job, and returns its trial, or the students of a teacher."""
        self._engine.release(number)
        del self._progress.running[number]
        return self._queue.release(number)

    def _enter(self, number: int, trials: list[Drawn], result: Result) -> None:
        """Enters what a job has left: the outcome of a trial, or a teacher for its students."""
        self._clock.save()
        if number >= 0:
            (drawn,) = trials
            self._ledger.enter(drawn.trial, result)
            self._bases.add(number)
            self._report(self._ledger.line(number))
            return
        failure = self._teachers.keep(number, result)
        accuracy = result.outcome.accuracy
        trained = "its soft targets are made" if accuracy is None else f"accuracy {accuracy:.4f}"
        news = trained if failure is None else "failed"
        self._report(f"{self._name(number)}: {news}")
        if failure is None:
            self._queue.make_ready(trials)
            return
        for drawn in trials:
            self._fail(drawn, failure)

    def _fail(self, drawn: Drawn, reason: str) -> None:
        """Enters a trial that lacks its teacher, its soft targets, or what it starts from."""
        self._ledger.enter(drawn.trial, lost(reason))
        self._report(self._ledger.line(drawn.number))

    def _try_again(self, number: int, trials: list[Drawn], result: Result, damaged: bool) -> None:
        """Has a job that crashed go on from its checkpoint, as often as the sweep says."""
        files = self._files(number)
        if damaged:
            files.checkpoint.unlink(missing_ok=True)
        if not self._tries.count_crash(number):
            self._enter(number, trials, result)
            return
        if TRACEBACK in result.files:
            write_bytes(files.traceback, result.files[TRACEBACK])
        self._queue.make_ready(trials)
        start = "its last checkpoint" if files.checkpoint.exists() else "the beginning"
        self._report(
            f"{self._name(number)} crashed ({result.outcome.reason}), tried again from {start}"
        )

    def _files(self, number: int) -> TrialFolder:
        return self._teachers.folder(number) if number < 0 else self._folder.trial(number)

    def _name(self, number: int) -> str:
        return f"trial {number}" if number >= 0 else f"teacher {self._files(number).path.name}"

    # --- what the user sees ---

    def _show_phase(self, phase: str) -> None:
        self._progress.phase = phase
        self._report(None)

    def _report(self, line: str | None) -> None:
        self._progress.estimate(self._clock.seconds_left, self._engine.slots)
        self._observe(self._progress, line)
