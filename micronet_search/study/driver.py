"""The driver: the one process that owns a study, asks, decides, tells and records."""

from __future__ import annotations

import hashlib
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import ValidationError

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml, read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems
from micronet_search.engine.inline import Inline
from micronet_search.engine.work import Ended, Event, Job, Order, Reached, Stop, Trained
from micronet_search.score.rules import scores
from micronet_search.search import screening, space, stopping
from micronet_search.search.screening import Screened
from micronet_search.store.files import read_json, write_bytes, write_json, write_text
from micronet_search.store.outcome import Epoch, never_begun
from micronet_search.store.paths import StudyFolder
from micronet_search.study.ledger import Ledger
from micronet_search.study.progress import Observer, Progress, Running
from micronet_search.study.survey import violations
from micronet_search.study.teachers import NUMBER, Answer, Teachers
from micronet_search.tracking.recorder import Recorder


class Driver:
    """Asks for candidates, screens them, runs them in slots, and decides at rungs."""

    def __init__(
        self,
        sweep: Sweep,
        folder: StudyFolder,
        study: optuna.Study,
        engine: Inline,
        recorder: Recorder,
        teachers: Teachers,
        observe: Observer,
    ) -> None:
        """Takes over a study whose lock is held."""
        self.sweep = sweep
        self.folder = folder
        self.study = study
        self.engine = engine
        self.observe = observe
        self.progress = Progress(sweep.search.trials)
        self._teachers = teachers
        self._ledger = Ledger(sweep, folder, study, recorder, self.progress)
        self._space = sweep.space
        self._images, self._classes = engine.shape
        self._trials: dict[int, Trial] = {}
        self._seen: dict[str, int] = {}
        self._rungs: dict[int, dict[int, tuple[float, float]]] = {}
        self._undecided: list[Trial] = []
        self._unfinished: list[Trial] = []
        self._scores: dict[str, float] = {}
        self._exhausted = False
        self._pausing = False
        self._spent = read_json(folder.clock)["seconds"] if folder.clock.exists() else 0.0
        self._started = time.monotonic()

    def run(self) -> bool:
        """Goes on until the totals are reached.

        Returns:
            Whether the study is finished; False where it was paused by Ctrl-C or the hours.
        """
        with self._interruptible():
            try:
                self._unfinished = self._repair()
                self._report(None)
                self._loop()
            finally:
                self._save_clock()
        finished = self._exhausted or len(self.progress.outcomes) >= self.progress.total
        if not finished:
            self.progress.paused = "interrupt" if self._pausing else "hours"
        return finished

    def _loop(self) -> None:
        while True:
            while len(self.engine.running) < self.engine.slots and not self._is_over():
                trial = self._unfinished.pop(0) if self._unfinished else self._ask()
                if trial is not None:
                    self._start(trial)
            if not self.engine.running:
                return
            number, event = self.engine.wait()
            self._handle(number, event)

    def _is_over(self) -> bool:
        """Whether no further trial is to be started."""
        begun = len(self.progress.outcomes) + len(self.engine.running)
        return begun >= self.progress.total or self._exhausted or self._must_pause()

    def _must_pause(self) -> bool:
        hours = self.sweep.search.hours
        return self._pausing or (hours is not None and self._seconds() >= hours * 3600)

    def _seconds(self) -> float:
        return float(self._spent + time.monotonic() - self._started)

    def _save_clock(self) -> None:
        write_json(self.folder.clock, {"seconds": self._seconds()})

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first Ctrl-C pauses after the epoch; the second leaves at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def pause(*_: object) -> None:
            self._pausing = True
            signal.signal(signal.SIGINT, old)
            with suppress(RuntimeError):  # it came in the middle of another line
                self._report("pausing after this epoch; Ctrl-C again leaves at once")

        old = signal.signal(signal.SIGINT, pause)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, old)

    # --- what is there already ---

    def _repair(self) -> list[Trial]:
        """Replays what ended, and returns the trials that a stop or a crash left unfinished."""
        unfinished: list[Trial] = []
        for frozen in self.study.get_trials(deepcopy=False):
            running = frozen.state == TrialState.RUNNING
            if running and "screened" in frozen.user_attrs:
                self.study.tell(frozen.number, state=TrialState.PRUNED)
            if frozen.state == TrialState.WAITING or "screened" in frozen.user_attrs:
                continue
            self._remember(frozen)
            trial = self._trials.get(frozen.number)
            if not self._ledger.replay(frozen.number, trial) and trial is not None:
                begun = "digest" in frozen.user_attrs
                (unfinished if begun else self._undecided).append(trial)
        self._ledger.catch_up()
        return unfinished

    def _remember(self, frozen: FrozenTrial) -> None:
        number, known = frozen.number, frozen.user_attrs
        if "digest" in known:
            self._seen.setdefault(known["digest"], number)
        for rung, point in known.get("rungs", {}).items():
            self._rungs.setdefault(int(rung), {})[number] = tuple(point)
        if frozen.state == TrialState.RUNNING:
            self._trials[number] = Trial(self.study, frozen._trial_id)

    # --- from a draw to a slot ---

    def _ask(self) -> Trial | None:
        """The next draw that is not screened; None on a pause, or after too many that are."""
        refused: list[Screened] = []
        while len(refused) < screening.MAX_SCREENED_IN_A_ROW and not self._must_pause():
            trial = self._undecided.pop() if self._undecided else self.study.ask()
            verdict = self._judge(trial)
            if verdict is None:
                return trial
            refused.append(verdict)
            self._screen(trial, verdict)
        if len(refused) == screening.MAX_SCREENED_IN_A_ROW:
            self._exhausted = True
            self._report(screening.describe_end(refused, self.sweep.objectives))
        return None

    def _judge(self, trial: Trial) -> Screened | None:
        """Why a draw is refused; None for one to train, which is then known as tried."""
        try:
            candidate = self._candidate(trial)
        except ValidationError as error:
            ((_, message), *_) = validation_problems(error, Candidate)
            return screening.impossible(message)
        digest, score = candidate.digest(), self._predicted_score(candidate)
        verdict = screening.screen(digest, score, self.sweep.objectives, self._seen)
        if verdict is None:
            trial.set_user_attr("digest", digest)
            self._seen[digest] = trial.number
        return verdict

    @property
    def _rule(self) -> str:
        return self.sweep.objectives.score.rule

    def _predicted_score(self, candidate: Candidate) -> float:
        digest = candidate.digest()
        if digest not in self._scores:
            self._scores[digest] = scores(build.predict(candidate))[self._rule].score
        return self._scores[digest]

    def _candidate(self, trial: Trial) -> Candidate:
        tree = space.suggest(trial, self._space)
        return read_candidate(tree, self._images, self._classes)

    def _screen(self, trial: Trial, verdict: Screened) -> None:
        """Tells Optuna of a refused draw: PRUNED, with the constraints that it is known to miss."""
        score = verdict.score
        if verdict.reason == "impossible":  # as far off as ten times the ceiling
            score = 10 * self.sweep.objectives.score.at_most
        missed = screening.violations(None, score, self.sweep.objectives)
        if verdict.of is not None and verdict.of in self.progress.outcomes:
            missed = violations(self.progress.outcomes[verdict.of], self.sweep.objectives) or missed
        for name, violation in missed.items():
            trial.set_constraint(name, violation)
        trial.set_user_attr("screened", verdict.message)
        self.study.tell(trial, state=TrialState.PRUNED)
        self.progress.screened += 1
        self._report(f"draw {trial.number} screened: {verdict.message}")

    def _start(self, trial: Trial) -> None:
        number, candidate = trial.number, self._candidate(trial)
        self._trials[number] = trial
        files = self.folder.trial(number)
        write_text(files.candidate, dump_yaml(candidate.model_dump(mode="json")))
        job = self._teachers.job(candidate)
        if job is not None:  # the trial waits for its teacher
            self._unfinished.insert(0, trial)
            self.engine.start(job)
            self.progress.teacher = Running()
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
            )
        )
        self.progress.running[number] = Running()
        self._report(None)

    # --- what slots say ---

    def _handle(self, number: int, event: Event) -> None:
        match event:
            case _ if number == NUMBER:
                self._follow(self._teachers.hear(event, self._must_pause()))
            case Trained(row, epochs):
                self.progress.running[number] = Running(row.epoch, epochs, row.accuracy)
                self._report(None)
                self.engine.order(number, "pause" if self._must_pause() else "go")
            case Reached(row, checkpoint):
                write_bytes(self.folder.trial(number).checkpoint, checkpoint)
                self._save_clock()
                order = self._decide(number, row)
                if order == "go" and self._must_pause():
                    self.engine.release(number)
                    del self.progress.running[number]
                    self._report(f"trial {number} paused after epoch {row.epoch}")
                else:
                    self.engine.order(number, order)
            case Ended(result):
                self.engine.release(number)
                del self.progress.running[number]
                self._ledger.enter(self._trials[number], result)
                self._save_clock()
                self._report(self._ledger.line(number))

    def _follow(self, answer: Answer) -> None:
        """Does what follows from an event of a teacher's job."""
        self.progress.teacher = answer.running
        self._save_clock()
        if answer.order is None:
            self.engine.release(NUMBER)
        else:
            self.engine.order(NUMBER, answer.order)
        self._report(answer.line)
        if answer.failed is not None:
            trial = self._unfinished.pop(0)
            self._ledger.enter(trial, never_begun(answer.failed))
            self._report(self._ledger.line(trial.number))

    def _decide(self, number: int, row: Epoch) -> Order:
        """Whether a trial goes on past the rung that it has reached."""
        trial, early = self._trials[number], self.sweep.search.early_stopping
        candidate = self._candidate(trial)
        if early.rule == "off" or row.epoch not in early.rungs(candidate.training.epochs):
            return "go"
        reached = self._rungs.setdefault(row.epoch, {})
        point = reached[number] = (row.accuracy, self._predicted_score(candidate))
        passed = {rung: known[number] for rung, known in self._rungs.items() if number in known}
        trial.set_user_attr("rungs", passed)
        others = [known for other, known in reached.items() if other != number]
        if stopping.goes_on(point, np.array(others).reshape(-1, 2), early.reduction):
            return "go"
        return Stop(f"moasha at the rung of epoch {row.epoch}, with {len(others)} other trials")

    # --- what the user sees ---

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
            bounds.append(left * sum(took) / len(took) / self.engine.slots)
        return max(0.0, min(bounds)) if bounds else None


def _trial_seed(seed: int, number: int) -> int:
    digest = hashlib.blake2b(f"{seed}/{number}".encode(), digest_size=4).digest()
    return int.from_bytes(digest)
