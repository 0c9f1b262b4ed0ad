"""Teachers: networks that are trained once, outside any study, and shared by all students."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml, load_stored_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.config.training import Teacher
from micronet_search.data.splits import Fingerprint
from micronet_search.engine.work import Job
from micronet_search.store.files import write_bytes, write_json, write_text
from micronet_search.store.outcome import Result, read_outcome
from micronet_search.store.paths import VIEWS_FILE, Root, TrialFolder
from micronet_search.study import soft_targets

SEED = 0
"""The seed of every teacher, so that studies with different seeds share it."""


@dataclass(frozen=True)
class _Task:
    """What the jobs of one number do: they train a teacher, or make its soft targets.

    Attributes:
        folder: Where the teacher or its soft targets are kept.
        makes_views: Whether they make soft targets.
        candidate: The teacher, or the first student that needs the soft targets.
    """

    folder: TrialFolder
    makes_views: bool
    candidate: Candidate = field(compare=False)


class Teachers:
    """Finds the teachers of a study's students, and makes the jobs that train them.

    A job of its own makes the soft targets that are cached, from any teacher's model.
    """

    def __init__(self, root: Root, images: Fingerprint, sweep: Sweep) -> None:
        """Prepares for the students that a sweep draws.

        Args:
            root: The folder of all studies and teachers.
            images: The training images; each dataset has its own teachers.
        """
        self._root = root
        self._images = images
        self._checkpoint_minutes = sweep.execution.checkpoint_minutes
        leaves = distributions.leaves(sweep.space)
        self._is_everyones = not any(map(_decides_the_teacher, leaves))
        self._all_look_up = self._is_everyones and "distillation.cached" not in leaves
        self._tasks: list[_Task] = []  # of the jobs -1, -2, and so on
        self._without_views: dict[TrialFolder, str] = {}  # why their soft targets failed

    def content(self, student: Candidate) -> bytes | None:
        """Returns what a student needs of its teacher; None if it has no teacher.

        It is the teacher's model file, or its soft targets where the student has them cached.
        """
        if student.distillation is None:
            return None
        if student.distillation.cached:
            return self._views_folder(student).views.read_bytes()
        return self._model(student).read_bytes()

    def job(self, student: Candidate) -> Job | None:
        """Returns the job that must end before a student can be trained; None if there is none.

        The job's number is negative, and the same for all students of one teacher.
        """
        folder = self._folder_of(student)
        if folder is not None and not folder.model.exists():
            return self._job(_Task(folder, False, student.teacher()), None)
        if student.distillation is None or not student.distillation.cached:
            return None
        folder = self._views_folder(student)
        if soft_targets.are_whole(folder.views, self._images):
            return None
        return self._job(_Task(folder, True, student), self._model(student).read_bytes())

    def _job(self, task: _Task, teacher: bytes | None) -> Job:
        if task not in self._tasks:
            self._tasks.append(task)
        saved = task.folder.checkpoint
        return Job(
            number=-1 - self._tasks.index(task),
            candidate=task.candidate,
            seed=SEED,
            stops=(),
            checkpoint=saved.read_bytes() if saved.exists() else None,
            teacher=teacher,
            checkpoint_minutes=self._checkpoint_minutes,
            makes_views=task.makes_views,
        )

    def folder(self, number: int) -> TrialFolder:
        """Returns the folder of the teacher that a job trains."""
        return self._tasks[-1 - number].folder

    def keep(self, number: int, result: Result) -> str | None:
        """Writes what a teacher's job left, the model last.

        Returns:
            Why its students cannot be trained; None if they can.

        Raises:
            ValueError: The teacher or its soft targets failed, and every candidate has them.
        """
        task = self._tasks[-1 - number]
        folder = task.folder
        if task.makes_views:
            if VIEWS_FILE in result.files:
                write_bytes(folder.views, result.files[VIEWS_FILE])
            else:
                reason = f"the soft targets of the teacher {folder.path.name} failed"
                self._without_views[folder] = f"{reason}: {result.outcome.reason}"
        elif not folder.model.exists():  # else another study has trained it meanwhile
            write_text(folder.candidate, dump_yaml(task.candidate.model_dump(mode="json")))
            write_json(folder.outcome, result.outcome.to_json())
            for name in sorted(result.files, key=lambda name: name == folder.model.name):
                write_bytes(folder.path / name, result.files[name])
        folder.checkpoint.unlink(missing_ok=True)
        return self._views_failure(folder) if task.makes_views else self._failure(folder)

    def failure(self, student: Candidate) -> str | None:
        """Returns why a student has to do without its teacher and fails; None if it does not.

        The failure of a teacher is kept in its folder, so that no student, start or study trains
        the teacher again.

        Raises:
            ValueError: The teacher or its soft targets failed, and every candidate has them.
        """
        if student.distillation is None:
            return None
        folder = self._folder_of(student)
        if folder is not None and (reason := self._failure(folder)):
            return reason
        model = self._model(student)
        if folder is None and not model.exists():
            return f"found no {model}, expected the model of a teacher"
        if not student.distillation.cached:
            return None
        return self._views_failure(self._views_folder(student) if model.exists() else None)

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

    def _views_failure(self, folder: TrialFolder | None) -> str | None:
        """Returns why there are no soft targets in a folder; None is that of an untrained model."""
        reason = soft_targets.too_large(self._images)
        if reason is None and folder is not None:
            reason = self._without_views.get(folder)
        if reason is not None and self._all_look_up:
            raise ValueError(reason)
        return reason

    def _model(self, student: Candidate) -> Path:
        assert student.distillation is not None
        return (self._folder_of(student) or _trial(self._root, student.distillation.teacher)).model

    def _folder_of(self, student: Candidate) -> TrialFolder | None:
        """Returns the folder of a student's teacher, unless that is a trial of another study."""
        if student.distillation is None or student.distillation.teacher.study is not None:
            return None
        return self._root.teacher(student.teacher().digest(), self._images.digest)

    def _views_folder(self, student: Candidate) -> TrialFolder:
        """Returns where the soft targets of a student's teacher are, whose model exists.

        Those of a trial of another study are not in its folder, which that study's driver owns.
        """
        if folder := self._folder_of(student):
            return folder
        key = hashlib.sha256(self._model(student).read_bytes()).hexdigest()
        return self._root.teacher(key, self._images.digest)


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
