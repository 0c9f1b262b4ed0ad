"""Teachers: networks trained once, outside a study's trials, and shared by all of its students."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from micronet_search import shipped
from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml
from micronet_search.config.network import Input
from micronet_search.config.training import Teacher
from micronet_search.data.splits import Splits
from micronet_search.engine.work import Ended, Event, Job, Order, Reached, Trained
from micronet_search.store.files import write_bytes, write_json, write_text
from micronet_search.store.outcome import Result
from micronet_search.store.paths import Root, TrialFolder
from micronet_search.study.progress import Running

NUMBER = -1
"""What a teacher's job has in the place of a trial's number."""
SEED = 0
"""Of every teacher, so that studies with different seeds share it."""
CHECKPOINTS = 10
"""How many a teacher's training writes."""


class Answer(NamedTuple):
    """What follows from an event of a teacher's job.

    Attributes:
        order: For the slot; None to free it.
        running: How far the teacher is; None where it is over.
        line: For the log.
    """

    order: Order | None
    running: Running | None
    line: str | None = None


class Teachers:
    """The teachers of a study's students, where they are kept, and the jobs that train them."""

    def __init__(self, root: Root, splits: Splits) -> None:
        """Finds teachers under a root.

        Args:
            root: Where studies and teachers are kept.
            splits: What teachers are trained on; another dataset has others.
        """
        self._root = root
        self._splits = splits
        self._fingerprint: str | None = None
        self._taught: Candidate
        self._place: TrialFolder

    def content(self, student: Candidate) -> bytes | None:
        """The model file of a student's teacher; None where it has none."""
        files = self._files(student)
        return None if files is None else files.model.read_bytes()

    def job(self, student: Candidate) -> Job | None:
        """What is to be trained before a student can be; None where nothing is."""
        files = self._files(student)
        if files is None or files.model.exists():
            return None
        self._taught, self._place = _candidate(student), files
        epochs = self._taught.training.epochs
        step = max(1, epochs // CHECKPOINTS)
        return Job(
            number=NUMBER,
            candidate=self._taught,
            seed=SEED,
            stops=tuple(range(step, epochs, step)),
            checkpoint=files.checkpoint.read_bytes() if files.checkpoint.exists() else None,
        )

    def hear(self, event: Event, pausing: bool) -> Answer:
        """Takes in what the slot of a teacher's job says.

        Raises:
            ValueError: The training failed.
        """
        match event:
            case Trained(row, epochs):
                return Answer(
                    "pause" if pausing else "go", Running(row.epoch, epochs, row.accuracy)
                )
            case Reached(row, content):
                write_bytes(self._place.checkpoint, content)
                if pausing:
                    return self._over(f"paused after epoch {row.epoch}")
                return Answer("go", Running(row.epoch, self._taught.training.epochs, row.accuracy))
            case Ended(result):
                self._enter(result)
                return self._over(f"accuracy {result.outcome.accuracy:.4f}")

    def _over(self, news: str) -> Answer:
        return Answer(None, None, f"teacher {self._place.path.name}: {news}")

    def _enter(self, result: Result) -> None:
        """Keeps a trained teacher, its model last."""
        files = self._place
        files.checkpoint.unlink(missing_ok=True)
        if result.outcome.state != "complete":
            raise ValueError(
                f"the teacher {files.path.name} failed: {result.outcome.reason}; "
                "expected a network and a training that come to an end"
            )
        write_text(files.candidate, dump_yaml(self._taught.model_dump(mode="json")))
        write_json(files.outcome, result.outcome.to_json())
        for name in sorted(result.files, key=lambda name: name == files.model.name):
            write_bytes(files.path / name, result.files[name])

    def _files(self, student: Candidate) -> TrialFolder | None:
        if student.distillation is None:
            return None
        teacher = student.distillation.teacher
        if teacher.study is not None:
            return trial_of(self._root, teacher)
        if self._fingerprint is None:
            self._fingerprint = self._splits.fingerprint()
        text = f"{_candidate(student).digest()}/{self._fingerprint}"
        return self._root.teacher(hashlib.sha256(text.encode()).hexdigest()[:16])


def trial_of(root: Root, teacher: Teacher) -> TrialFolder:
    """The folder of a teacher that is a trial of another study."""
    assert teacher.study is not None
    assert teacher.trial is not None
    return root.study(teacher.study).trial(teacher.trial)


def check(space: Any, root: Root, images: Input, classes: int) -> None:
    """Looks for the trials of other studies that a space names as teachers.

    Raises:
        ValueError: One is not there, or was trained on other images.
    """
    for teacher in dict.fromkeys(_named(space)):
        files = trial_of(root, teacher)
        place = f"distillation.teacher: trial {teacher.trial} of the study {teacher.study}"
        if not files.model.exists():
            raise ValueError(f"{place}: found no {files.model}, expected a complete trial")
        found = shipped.load(files.model).candidate
        if (found.input, found.classes) != (images, classes):
            raise ValueError(
                f"{place}: found images of {found.input} and {found.classes} classes, expected "
                f"the dataset's {images} and {classes}"
            )


def _named(space: Any) -> Iterator[Teacher]:
    for values in distributions.singles(space):
        tree = distributions.draw(space, distributions.pick_from(values)).tree
        teacher = (tree.get("distillation") or {}).get("teacher", {})
        if "study" in teacher:
            yield Teacher.model_validate(teacher)


def _candidate(student: Candidate) -> Candidate:
    assert student.distillation is not None
    return student.teacher(student.distillation.teacher)
