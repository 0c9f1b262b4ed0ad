"""Teachers: networks that are trained once, outside any study, and shared by all students."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, repeat
from typing import Any

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
"""The seed of every teacher, so that studies with different seeds share it."""


class Teachers:
    """Finds the teachers of a study's students, and makes the jobs that train them."""

    def __init__(self, root: Root, fingerprint: str, sweep: Sweep) -> None:
        """Prepares for the students that a sweep draws.

        Args:
            root: The folder of all studies and teachers.
            fingerprint: The fingerprint of the training images; each dataset has its own teachers.
        """
        self._root = root
        self._fingerprint = fingerprint
        self._checkpoint_minutes = sweep.execution.checkpoint_minutes
        self._is_everyones = not any(map(_decides_the_teacher, distributions.leaves(sweep.space)))
        self._jobs: list[tuple[Candidate, TrialFolder]] = []  # job -1, -2, and so on

    def content(self, student: Candidate) -> bytes | None:
        """Returns the model file of a student's teacher; None if it has no teacher."""
        if student.distillation is None:
            return None
        folder = self._folder_of(student) or _trial(self._root, student.distillation.teacher)
        return folder.model.read_bytes()

    def job(self, student: Candidate) -> Job | None:
        """Returns the job that must end before a student can be trained; None if there is none.

        The job's number is negative, and the same for all students of one teacher.
        """
        folder = self._folder_of(student)
        if folder is None or folder.model.exists():
            return None
        teacher = student.teacher()
        if (teacher, folder) not in self._jobs:
            self._jobs.append((teacher, folder))
        return Job(
            number=-1 - self._jobs.index((teacher, folder)),
            candidate=teacher,
            seed=SEED,
            stops=(),
            checkpoint=folder.checkpoint.read_bytes() if folder.checkpoint.exists() else None,
            checkpoint_minutes=self._checkpoint_minutes,
        )

    def folder(self, number: int) -> TrialFolder:
        """Returns the folder of the teacher that a job trains."""
        return self._jobs[-1 - number][1]

    def keep(self, number: int, result: Result) -> str | None:
        """Writes what a teacher's job left, the model last.

        Returns:
            Why its students cannot be trained; None if they can.

        Raises:
            ValueError: The teacher failed, and every candidate of the sweep has it.
        """
        candidate, folder = self._jobs[-1 - number]
        if not folder.model.exists():  # else another study has trained it meanwhile
            write_text(folder.candidate, dump_yaml(candidate.model_dump(mode="json")))
            write_json(folder.outcome, result.outcome.to_json())
            for name in sorted(result.files, key=lambda name: name == folder.model.name):
                write_bytes(folder.path / name, result.files[name])
        folder.checkpoint.unlink(missing_ok=True)
        return self._failure(folder)

    def failure(self, student: Candidate) -> str | None:
        """Returns why a student has to do without its teacher and fails; None if it does not.

        The failure of a teacher is kept in its folder, so that no student, start or study trains
        the teacher again.

        Raises:
            ValueError: The teacher failed, and every candidate of the sweep has it.
        """
        folder = self._folder_of(student)
        if folder is not None:
            return self._failure(folder)
        if student.distillation is None:
            return None
        model = _trial(self._root, student.distillation.teacher).model
        return None if model.exists() else f"found no {model}, expected the model of a teacher"

    def _failure(self, folder: TrialFolder) -> str | None:
        if folder.model.exists() or not folder.outcome.exists():
            return None
        outcome = read_outcome(folder.outcome)
        if outcome.state != "failed":  # a crash came between its outcome and its model
            return None
        reason = f"the teacher {folder.path.name} failed: {outcome.reason}"
        if self._is_everyones:
            raise ValueError(
                f"{reason}; expected a teacher that every candidate can learn from: change its "
                f"network or its training, or remove {folder.path} to train it again"
            )
        return reason

    def _folder_of(self, student: Candidate) -> TrialFolder | None:
        """Returns the folder of a student's teacher, unless that is a trial of another study."""
        if student.distillation is None or student.distillation.teacher.study is not None:
            return None
        text = f"{student.teacher().digest()}/{self._fingerprint}"
        return self._root.teacher(hashlib.sha256(text.encode()).hexdigest()[:16])


def check(sweep: Sweep, root: Root) -> None:
    """Checks the trials of other studies that a sweep names as teachers.

    Raises:
        ValueError: A trial has no model, or its images differ from the sweep's, so that it may have
            been trained on some that judge its students.
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
                f"{place}: found that it was trained on {found}, expected the images of this "
                f"sweep, {sweep.dataset}"
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
    """Returns whether the choice at a path decides which teacher a candidate has, if any."""
    return path == "distillation.one_of" or (
        path.startswith("distillation.") and ".teacher." in f"{path}."
    )


def _trial(root: Root, teacher: Teacher) -> TrialFolder:
    assert teacher.study is not None
    assert teacher.trial is not None
    return root.study(teacher.study).trial(teacher.trial)
