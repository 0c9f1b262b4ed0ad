"""Teachers: networks trained once, outside a study's trials, and shared by all of its students."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat
from typing import Any, NamedTuple

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml, load_stored_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.config.training import Teacher
from micronet_search.engine.work import Job
from micronet_search.store.files import write_bytes, write_json, write_text
from micronet_search.store.outcome import Result, read_outcome
from micronet_search.store.paths import Root, TrialFolder

SEED = 0
"""Of every teacher, so that studies with different seeds share it."""


class _Training(NamedTuple):
    """A teacher that is trained: what it is, and where it is kept."""

    candidate: Candidate
    folder: TrialFolder


class Teachers:
    """The teachers of a study's students, where they are kept, and the jobs that train them."""

    def __init__(self, root: Root, fingerprint: str, sweep: Sweep) -> None:
        """Finds teachers under a root.

        Args:
            root: Where studies and teachers are kept.
            fingerprint: That of the training images; another dataset has other teachers.
            sweep: Whose candidates may have one teacher or many, or none.
        """
        self._root = root
        self._fingerprint = fingerprint
        self._checkpoint_minutes = sweep.execution.checkpoint_minutes
        self._is_everyones = not any(map(_decides_the_teacher, distributions.leaves(sweep.space)))
        self._trainings: dict[int, _Training] = {}

    def content(self, student: Candidate) -> bytes | None:
        """The model file of a student's teacher; None where it has none."""
        folder = self._folder_of(student)
        return None if folder is None else folder.model.read_bytes()

    def job(self, student: Candidate) -> Job | None:
        """What is to be trained before a student can be; None where nothing is.

        Its number is negative, and the same for all students of a teacher.
        """
        folder = self._folder_of(student)
        if folder is None or folder.model.exists() or _named(student):
            return None
        training = _Training(student.teacher(), folder)
        number = next((n for n, known in self._trainings.items() if known == training), None)
        if number is None:
            number = -1 - len(self._trainings)
            self._trainings[number] = training
        return Job(
            number=number,
            candidate=training.candidate,
            seed=SEED,
            stops=(),
            checkpoint=folder.checkpoint.read_bytes() if folder.checkpoint.exists() else None,
            checkpoint_minutes=self._checkpoint_minutes,
        )

    def folder(self, number: int) -> TrialFolder:
        """Where the teacher of a job is kept."""
        return self._trainings[number].folder

    def enter(self, number: int, result: Result) -> str | None:
        """Keeps what a teacher left, its model last.

        Returns:
            Why its students cannot be trained; None where they can.

        Raises:
            ValueError: It failed, and every candidate of the sweep has it.
        """
        (candidate, folder), outcome = self._trainings[number], result.outcome
        if not folder.model.exists():  # else another study was quicker
            write_text(folder.candidate, dump_yaml(candidate.model_dump(mode="json")))
            write_json(folder.outcome, outcome.to_json())
            for name in sorted(result.files, key=lambda name: name == folder.model.name):
                write_bytes(folder.path / name, result.files[name])
        folder.checkpoint.unlink(missing_ok=True)
        return self._failure(folder)

    def failure(self, student: Candidate) -> str | None:
        """Why a student's teacher cannot be had; None where it can.

        A failure stands beside the teacher, so that no other student, start or study repeats it.

        Raises:
            ValueError: It failed, and every candidate of the sweep has it.
        """
        folder = self._folder_of(student)
        return None if folder is None or _named(student) else self._failure(folder)

    def _failure(self, folder: TrialFolder) -> str | None:
        if folder.model.exists() or not folder.outcome.exists():
            return None
        outcome = read_outcome(folder.outcome)
        if outcome.state != "failed":  # a crash came between its outcome and its model
            return None
        reason = f"the teacher {folder.path.name} failed: {outcome.reason}"
        if self._is_everyones:
            raise ValueError(
                f"{reason}; expected a network and a training that come to an end "
                f"(without the folder {folder.path} it is trained again)"
            )
        return reason

    def _folder_of(self, student: Candidate) -> TrialFolder | None:
        if student.distillation is None:
            return None
        if _named(student):
            return _trial(self._root, student.distillation.teacher)
        text = f"{student.teacher().digest()}/{self._fingerprint}"
        return self._root.teacher(hashlib.sha256(text.encode()).hexdigest()[:16])


def check(sweep: Sweep, root: Root) -> None:
    """Looks for the trials of other studies that a sweep names as teachers.

    Raises:
        ValueError: One is not there, or may have been trained on images that judge its students.
    """
    for teacher in dict.fromkeys(_teachers(sweep.space)):
        assert teacher.study is not None
        place = f"distillation.teacher: trial {teacher.trial} of the study {teacher.study}"
        model = _trial(root, teacher).model
        if not model.exists():
            raise ValueError(f"{place}: found no {model}, expected a complete trial")
        found = load_stored_sweep(root.study(teacher.study).sweep).dataset
        if found.model_copy(update={"root": sweep.dataset.root}) != sweep.dataset:
            raise ValueError(
                f"{place}: found that it learned from {found}, expected the same images as here, "
                f"{sweep.dataset}"
            )


def _teachers(space: Any) -> Iterator[Teacher]:
    """Yields the trials of other studies that a space names, as far as some draws find them."""
    one_by_one = map(distributions.pick_from, distributions.singles(space))
    random_ones = repeat(distributions.pick_random(random.Random(0)), distributions.DRAWS)
    for pick in chain(one_by_one, random_ones):
        tree = distributions.draw(space, pick).tree
        teacher = (tree.get("distillation") or {}).get("teacher") or {}
        with suppress(ValidationError):  # a draw that is screened
            found = Teacher.model_validate(teacher)
            if found.study is not None:
                yield found


def _decides_the_teacher(path: str) -> bool:
    """Whether the choice at a path decides which teacher a candidate has, or that it has none."""
    return path == "distillation.one_of" or (
        path.startswith("distillation.") and ".teacher." in f"{path}."
    )


def _named(student: Candidate) -> bool:
    """Whether its teacher is a trial of another study."""
    return student.distillation is not None and student.distillation.teacher.study is not None


def _trial(root: Root, teacher: Teacher) -> TrialFolder:
    assert teacher.study is not None
    assert teacher.trial is not None
    return root.study(teacher.study).trial(teacher.trial)
