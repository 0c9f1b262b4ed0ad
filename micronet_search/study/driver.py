"""The driver: the one process that runs an agenda's trials in slots, and enters what they leave."""

from typing import Generic

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
from micronet_search.store.files import write_bytes, write_text
from micronet_search.store.outcome import TRACEBACK, Epoch, Result, lost
from micronet_search.store.paths import TrialFolder
from micronet_search.study.agenda import Agenda
from micronet_search.study.clock import Clock
from micronet_search.study.progress import Observer, Progress, Running
from micronet_search.study.queue import P, Queue, Tries
from micronet_search.study.starting_points import StartingPoints
from micronet_search.study.teachers import Teachers


class Driver(Generic[P]):
    """Runs the trials of an agenda in slots, with their teachers, and tries again what crashed."""

    def __init__(
        self,
        sweep: Sweep,
        agenda: Agenda[P],
        engine: Engine,
        teachers: Teachers,
        starts: StartingPoints,
        clock: Clock,
        progress: Progress,
        observe: Observer,
    ) -> None:
        """Takes over a study whose lock is held."""
        self._minutes = sweep.execution.checkpoint_minutes
        self._agenda, self._engine = agenda, engine
        self._teachers, self._starts = teachers, starts
        self._clock = clock
        self._progress, self._observe = progress, observe
        self._queue: Queue[P] = Queue(progress.total, progress.outcomes)
        self._tries = Tries(sweep.execution.retries)

    def run(self) -> bool:
        """Goes on until the total is reached, or the agenda is exhausted.

        Returns:
            Whether it is finished; False where it was paused by a signal or the hours.
        """
        with self._clock.interruptible(self._report):
            try:
                self._queue.ready += self._agenda.begin()
                self._progress.phase = "starting"
                self._report(None)
                self._loop()
            finally:
                self._clock.save()
        is_finished = self._has_begun_all()
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
            self._agenda.update()

    def _is_over(self) -> bool:
        return self._clock.must_pause or self._has_begun_all()

    def _has_begun_all(self) -> bool:
        """Returns whether no trial is left to begin, and none is to be taken."""
        is_enough = self._agenda.is_exhausted() and not self._queue.ready
        return self._queue.is_full or is_enough

    # --- from the agenda to a slot ---

    def _start_next(self) -> None:
        trial = self._queue.ready.pop(0) if self._queue.ready else self._agenda.take()
        if trial is not None:
            self._start(trial)

    def _start(self, trial: P) -> None:
        """Gives a trial a slot, or has it wait for its teacher, or fail without what it needs."""
        self._progress.phase = None
        number, candidate = trial.number, trial.candidate
        files = self._files(number)
        write_text(files.candidate, dump_yaml(candidate.model_dump(mode="json")))
        failure = self._teachers.failure(candidate) or self._starts.failure(candidate)
        if failure is not None:
            self._fail(trial, failure)
            return
        if (teacher := self._teachers.job(candidate)) is not None:
            self._queue.wait_for(teacher.number, trial)
            if teacher.number not in self._queue.running:
                self._give_slot(teacher, None)
            self._report(f"{self._name(number)} waits for its {teacher.product}")
            return
        self._agenda.prepare(trial)
        job = Job(
            number=number,
            candidate=candidate,
            seed=trial.seed,
            stops=self._agenda.stops(trial),
            checkpoint=files.checkpoint.read_bytes() if files.checkpoint.exists() else None,
            teacher=self._teachers.content(candidate),
            start=self._starts.content(candidate),
            checkpoint_minutes=self._minutes,
            full_train=self._agenda.full_train,
        )
        self._give_slot(job, trial)
        self._report(None)

    def _give_slot(self, job: Job, trial: P | None) -> None:
        self._engine.start(job)
        self._queue.running[job.number] = trial
        self._progress.running[job.number] = Running(self._name(job.number))

    # --- what slots say ---

    def _handle(self, number: int, event: Event) -> None:
        match event:
            case Trained(row, epochs):
                name = self._name(number)
                running = Running(name, row.epoch, epochs, row.accuracy, row.stage)
                self._progress.running[number] = running
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
        trial = self._queue.running[number]
        order: Order = "go" if trial is None else self._agenda.order(trial, row)
        if order == "go" and self._clock.must_pause:
            self._queue.make_ready(self._release(number))
            self._report(f"{self._name(number)} paused after epoch {row.epoch}")
        else:
            self._engine.order(number, order)

    def _release(self, number: int) -> list[P]:
        """Frees the slot of a job, and returns its trial, or the students of a teacher."""
        self._engine.release(number)
        del self._progress.running[number]
        return self._queue.release(number)

    def _enter(self, number: int, trials: list[P], result: Result) -> None:
        """Enters what a job has left: the outcome of a trial, or a teacher for its students."""
        self._clock.save()
        if number >= 0:
            self._report(self._agenda.enter(trials[0], result))
            return
        failure = self._teachers.keep(number, result)
        accuracy = result.outcome.accuracy
        trained = "its soft targets are made" if accuracy is None else f"accuracy {accuracy:.4f}"
        news = trained if failure is None else "failed"
        self._report(f"{self._name(number)}: {news}")
        if failure is None:
            self._queue.make_ready(trials)
            return
        for trial in trials:
            self._fail(trial, failure)

    def _fail(self, trial: P, reason: str) -> None:
        """Enters a trial that lacks its teacher, its soft targets, or what it starts from."""
        self._report(self._agenda.enter(trial, lost(reason)))

    def _try_again(self, number: int, trials: list[P], result: Result, damaged: bool) -> None:
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
        return self._teachers.folder(number) if number < 0 else self._agenda.folder(number)

    def _name(self, number: int) -> str:
        if number < 0:
            return f"teacher {self._teachers.folder(number).path.name}"
        return self._agenda.name(number)

    # --- what the user sees ---

    def _report(self, line: str | None) -> None:
        self._progress.estimate(self._clock.seconds_left, self._engine.slots)
        self._observe(self._progress, line)
