"""Where each trial of a study is, from the draw to its end, and how often it was tried."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from optuna.trial import Trial

from micronet_search.config.candidate import Candidate
from micronet_search.store.outcome import Outcome


@dataclass(frozen=True)
class Drawn:
    """A draw that is to be trained.

    Attributes:
        trial: Optuna's.
        candidate: What it stands for.
        score: Predicted, by the rule that the study minimises.
    """

    trial: Trial
    candidate: Candidate
    score: float

    @property
    def number(self) -> int:
        """The trial's number."""
        return self.trial.number

    def seed(self, of_study: int) -> int:
        """Returns the seed of the trial, from 0 to 2^32 - 1, by that of the study."""
        text = f"{of_study}/{self.number}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


@dataclass(eq=False)
class Queue:
    """Where each trial is: undecided, ready, waiting for its teacher, running, or ended.

    What a slot works on is a job: a trial under its number, or a teacher under a negative one.

    Attributes:
        total: How many trials are asked for.
        ended: How the trials that have ended did.
        undecided: Draws of an earlier start that were neither screened nor begun.
        ready: Trials to start next, in this order: an earlier start or a crash left them, or their
            teacher has just been trained.
        waiting: The students of each teacher that is being trained, by the teacher's job.
        running: What holds a slot, by its job; None for a teacher.
    """

    total: int
    ended: Mapping[int, Outcome]
    undecided: list[Trial] = field(default_factory=list)
    ready: list[Drawn] = field(default_factory=list)
    waiting: dict[int, list[Drawn]] = field(default_factory=dict)
    running: dict[int, Drawn | None] = field(default_factory=dict)

    @property
    def begun(self) -> int:
        """How many trials hold a slot, or will once their teacher is trained."""
        waiting = sum(map(len, self.waiting.values()))
        return waiting + sum(drawn is not None for drawn in self.running.values())

    @property
    def is_full(self) -> bool:
        """Whether as many trials as are asked for have begun or ended."""
        return len(self.ended) + self.begun >= self.total

    def has_room(self, slots: int) -> bool:
        """Returns whether a slot is free that no student needs once its teacher is ready."""
        return max(len(self.running), self.begun) < slots

    def wait_for(self, teacher: int, drawn: Drawn) -> None:
        """Has a student wait until its teacher's job is over."""
        self.waiting.setdefault(teacher, []).append(drawn)

    def release(self, job: int) -> list[Drawn]:
        """Frees the slot of a job, and returns its trial; for a teacher, the students that wait."""
        drawn = self.running.pop(job)
        return self.waiting.pop(job, []) if drawn is None else [drawn]

    def make_ready(self, trials: Iterable[Drawn]) -> None:
        """Puts trials first in the line."""
        self.ready[:0] = trials


class Tries:
    """Counts the crashes of each job; the count begins anew at each further checkpoint."""

    def __init__(self, retries: int) -> None:
        """Starts at zero; `retries` is how often a job may be tried again."""
        self._retries = retries
        self._furthest: Counter[int] = Counter()
        self._crashes: Counter[tuple[int, int]] = Counter()

    def reach(self, job: int, epoch: int) -> None:
        """Notes a checkpoint."""
        self._furthest[job] = max(self._furthest[job], epoch)

    def count_crash(self, job: int) -> bool:
        """Counts a crash of a job, and returns whether the job may be tried again."""
        place = job, self._furthest[job]
        self._crashes[place] += 1
        return self._crashes[place] <= self._retries
