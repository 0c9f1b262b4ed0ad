"""Opens a study: everything that can refuse it comes before anything runs."""

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError

from micronet_search.config.files import load_candidate, load_stored_sweep, load_sweep
from micronet_search.config.loading import dotted
from micronet_search.config.network import Input
from micronet_search.config.options import invalid_options
from micronet_search.config.sweep import SHAPES, Sweep
from micronet_search.data import splits
from micronet_search.engine.choice import choose_device, open_engine
from micronet_search.engine.work import Engine
from micronet_search.search import space
from micronet_search.store.owner import driver_lock, study_id
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study import bases, resume, starting_points, teachers
from micronet_search.study.baseline import Baseline, candidate_of, settled
from micronet_search.study.clock import Clock
from micronet_search.study.driver import Driver
from micronet_search.study.progress import Observer, Progress
from micronet_search.study.projection import Projection
from micronet_search.study.resume import Fingerprints
from micronet_search.study.searching import Searching
from micronet_search.study.starting_points import StartingPoints
from micronet_search.study.storage import open_study, reason


def run(sweep: Sweep, root: Root, observe: Observer, *, new_total: bool = False) -> Progress:
    """Runs the study of a sweep up to its totals, from the beginning or from where it was left.

    Args:
        sweep: The sweep to run.
        root: The folder of all studies.
        observe: Is shown the progress.
        new_total: Whether the sweep's total of trials replaces a higher one of an earlier start.

    Raises:
        ValueError: The sweep, its dataset, its device, its storage or its tracking cannot be used.
            The message says what was found and what was expected.
    """
    opening = _Opening(sweep, root, observe)
    known = opening.check()
    is_new = not opening.folder.path.exists()
    with driver_lock(opening.folder), ExitStack() as stack:
        opening.resume(new_total)
        with _removed_on_failure(opening.folder, is_new):
            engine, device, fingerprints = opening.open_engine()
            stack.callback(engine.close)
            starts = StartingPoints(opening.sweep, root, fingerprints["train"])
            shared = teachers.Teachers(root, fingerprints["train"], opening.sweep)
            if not opening.settle_goal(engine, fingerprints, shared, starts):
                return opening.progress
            study = opening.open_optuna(known)
            resume.keep(opening.folder, opening.sweep, fingerprints)
            projection = opening.open_mlflow(study, device)
        opening.drive(study, engine, projection, shared, starts)
    return opening.progress


@contextmanager
def _removed_on_failure(folder: StudyFolder, is_new: bool) -> Iterator[None]:
    """Removes the folder of a new study that cannot be opened, unless MLflow may know of it."""
    try:
        yield
    except BaseException:
        if is_new and not folder.identity.exists():
            shutil.rmtree(folder.path, ignore_errors=True)
        raise


class _Opening:
    """The steps in which a study is opened and run; all but `check` need its lock."""

    def __init__(self, sweep: Sweep, root: Root, observe: Observer) -> None:
        self.sweep = sweep
        self.root = root
        self.folder = root.study(sweep.name)
        self.progress = Progress(sweep.search.trials)
        self._observe = observe
        self._tell = partial(observe, self.progress)

    def check(self) -> list[dict[str, Any]]:
        """Checks what the sweep asks for, and returns the choices of the candidates to try first.

        A study that has begun has them in Optuna already, and their files may be gone.
        """
        self._show_phase("checking the sweep")
        if self.sweep.execution.address is None:
            choose_device(self.sweep.execution.device)
        images, classes = splits.describe(self.sweep.dataset)
        check_space(self.sweep, images, classes)
        bases.check(self.sweep)
        teachers.check(self.sweep, self.root)
        if self.folder.sweep.exists():
            return []
        self.sweep = starting_points.resolved(self.sweep, self.root)
        known = find_known(self.sweep, images, classes)
        return known + starting_points.choices(self.sweep, self.root, self._tell)

    def resume(self, new_total: bool) -> None:
        """Takes over what an earlier start decided, if there was one."""
        if self.folder.sweep.exists():
            before, ended = load_stored_sweep(self.folder.sweep), len(self.folder.ended())
            if before.candidate != self.sweep.candidate:  # an older one may lack new defaults
                before = load_sweep(self.folder.sweep)
            self.sweep = resume.resumed(self.sweep, before, ended, new_total, self._tell)
            resume.refuse_other_sweep(before, self.sweep)
            self.progress.total = self.sweep.search.trials

    def open_engine(self) -> tuple[Engine, str, Fingerprints]:
        """Returns an engine with the dataset, the kind of its devices, and the fingerprints."""
        self._show_phase("loading the dataset")
        dataset = self.sweep.dataset
        loaded = splits.load(dataset)
        fingerprints = loaded.fingerprints()
        resume.refuse_other_images(self.folder, fingerprints)
        engine, device = open_engine(loaded, dataset, self.sweep.execution, self._tell)
        return engine, device, fingerprints

    def settle_goal(
        self,
        engine: Engine,
        fingerprints: Fingerprints,
        shared: teachers.Teachers,
        starts: StartingPoints,
    ) -> bool:
        """Trains the baseline of a relative goal, unless that is done; returns False on a pause."""
        goal, sweep = self.sweep.objectives.accuracy, self.sweep
        if goal.of is None:
            return True
        images = splits.describe(sweep.dataset)
        agenda = Baseline(goal.of, self.root, *images, fingerprints)
        if agenda.accuracy is None:
            progress, clock = Progress(1), Clock(None, None)
            Driver(sweep, agenda, engine, shared, starts, clock, progress, self._observe).run()
            self.progress.paused = progress.paused
        if agenda.accuracy is None:
            return False
        self.sweep = settled(sweep, agenda.accuracy)
        least = self.sweep.objectives.accuracy.at_least
        self._tell(f"accuracy.at_least is {least:.4f}, {goal.at_most_below:g} below the baseline's")
        return True

    def open_optuna(self, known: list[dict[str, Any]]) -> optuna.Study:
        self._show_phase("opening Optuna's and MLflow's records")
        study = open_study(self.folder, self.sweep)
        for params in known:
            study.enqueue_trial(params, skip_if_exists=True)
        return study

    def open_mlflow(self, study: optuna.Study, device: str) -> Projection:
        projection = Projection(self.sweep, self.root, study, self.progress.outcomes, self._tell)
        projection.begin(device)
        study_id(self.folder)  # is made even if MLflow does not answer
        return projection

    def drive(
        self,
        study: optuna.Study,
        engine: Engine,
        projection: Projection,
        shared: teachers.Teachers,
        starts: StartingPoints,
    ) -> None:
        sweep, progress, observe, finished = self.sweep, self.progress, self._observe, False
        try:
            clock = Clock(self.folder.clock, sweep.search.hours)
            agenda = Searching(
                sweep, self.root, study, projection, starts, clock, progress, observe
            )
            driver = Driver(sweep, agenda, engine, shared, starts, clock, progress, observe)
            finished = driver.run()
            if finished and progress.is_stagnant(sweep):
                self._tell("the study ends as search.stop_when says: its hypervolume has stagnated")
        except StorageInternalError as error:
            why = reason(error, sweep.tracking.optuna)
            raise ValueError(f"Optuna's storage failed: {why}") from error
        finally:
            projection.close(finished)

    def _show_phase(self, phase: str) -> None:
        self.progress.phase = phase
        self._tell(None)


def check_space(sweep: Sweep, images: Input, classes: int) -> None:
    """Tries the sweep's baseline, and the options of its space, on the images of its dataset.

    `load_sweep` has tried the options on datasets whose images it knows.

    Raises:
        ValueError: The baseline or some option does not go with them.
    """
    if (of := sweep.objectives.accuracy.of) is not None:
        candidate_of(of, images, classes)
    if sweep.dataset.name in SHAPES:
        return
    wrong = invalid_options(sweep.space, images, classes)
    if wrong:
        lines = (f"{dotted(('candidate', *key))}: {message}" for key, message in wrong)
        raise ValueError("\n".join(lines))


def find_known(sweep: Sweep, images: Input, classes: int) -> list[dict[str, Any]]:
    """Returns the choices that draw each candidate of `search.start_with`.

    Raises:
        ValueError: A file is no candidate, or the space cannot draw its candidate.
    """
    return [_known(sweep, path, images, classes) for path in sweep.search.start_with]


def _known(sweep: Sweep, path: str, images: Input, classes: int) -> dict[str, Any]:
    candidate = load_candidate(path)
    if (candidate.input, candidate.classes) != (images, classes):
        raise ValueError(
            f"{path}: found {candidate.input} and {candidate.classes} classes, "
            f"expected the dataset's {images} and {classes}"
        )
    try:
        return space.find_choices(sweep.space, candidate.model_dump(mode="json"))
    except space.OutsideSpaceError as error:
        raise ValueError(f"{path}: {error}") from None
