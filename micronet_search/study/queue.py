"""Where each trial of a study is, from the draw to its end, and how often it was tried."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from micronet_search.config.candidate import Candidate
from micronet_search.store.outcome import Outcome


@dataclass(frozen=True)
class Planned:
    """A trial that is to be run.

    Attributes:
        number: What it is known by.
        candidate: What it trains.
        seed: Where its randomness comes from.
    """

    number: int
    candidate: Candidate
    seed: int


def seed_of(study: int, *names: object) -> int:
    """Returns a seed, from 0 to 2^32 - 1, that follows from that of the study and from names."""
    text = "/".join(map(str, (study, *names)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest())


P = TypeVar("P", bound=Planned)


@dataclass(eq=False)
class Queue(Generic[P]):
    """Where each trial is: ready, waiting for its teacher, running, or ended.

    What a slot works on is a job: a trial under its number, or a teacher under a negative one.

    Attributes:
        total: How many trials are asked for.
        ended: How the trials that have ended did.
        ready: Trials to start next, in this order: an earlier start or a crash left them, or their
            teacher has just been trained.
        waiting: The students of each teacher that is being trained, by the teacher's job.
        running: What holds a slot, by its job; None for a teacher.
    """

    total: int
    ended: Mapping[int, Outcome]
    ready: list[P] = field(default_factory=list)
    waiting: dict[int, list[P]] = field(default_factory=dict)
    running: dict[int, P | None] = field(default_factory=dict)

    @property
    def begun(self) -> int:
        """How many trials hold a slot, or will once their teacher is trained."""
        waiting = sum(map(len, self.waiting.values()))
        return waiting + sum(trial is not None for trial in self.running.values())

    @property
    def is_full(self) -> bool:
        """Whether as many trials as are asked for have begun or ended."""
        return len(self.ended) + self.begun >= self.total

    def has_room(self, slots: int) -> bool:
        """Returns whether a slot is free that no student needs once its teacher is ready."""
        return max(len(self.running), self.begun) < slots

    def wait_for(self, teacher: int, trial: P) -> None:
        """Has a student wait until its teacher's job is over."""
        self.waiting.setdefault(teacher, []).append(trial)

    def release(self, job: int) -> list[P]:
        """Frees the slot of a job, and returns its trial; for a teacher, the students that wait."""
        trial = self.running.pop(job)
        return self.waiting.pop(job, []) if trial is None else [trial]

    def make_ready(self, trials: Iterable[P]) -> None:
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
