"""How a study is opened: everything that can refuse it, before anything runs."""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from typing import Any

from optuna.exceptions import StorageInternalError

from micronet_search.config.files import (
    dump_yaml,
    load_candidate,
    load_stored_sweep,
    load_sweep,
)
from micronet_search.config.loading import dotted
from micronet_search.config.network import Input
from micronet_search.config.options import invalid_options
from micronet_search.config.sweep import SHAPES, Sweep
from micronet_search.data import splits
from micronet_search.engine.choice import choose_device, open_engine
from micronet_search.search import samplers, space
from micronet_search.store.files import write_text
from micronet_search.store.owner import driver_lock, study_id
from micronet_search.store.paths import Root
from micronet_search.study import resume, teachers
from micronet_search.study.driver import Driver
from micronet_search.study.progress import Observer, Progress
from micronet_search.study.projection import Projection
from micronet_search.study.storage import open_study, reason
from micronet_search.tracking.passwords import masked


def run(sweep: Sweep, root: Root, observe: Observer, *, new_total: bool = False) -> Progress:
    """Runs a sweep's study up to its totals, from the beginning or from where it was left.

    Args:
        sweep: What to run.
        root: Where everything goes.
        observe: Is shown what happens.
        new_total: Whether the total of trials is a new one, so that an earlier one is forgotten.

    Raises:
        ValueError: The sweep, its dataset, its device, its store or its tracking cannot be used;
            one line that says what was found and what was expected.
    """
    progress = Progress(sweep.search.trials)

    def enter(phase: str) -> None:
        progress.phase = phase
        observe(progress, None)

    enter("checking the sweep")
    if sweep.execution.address is None:
        choose_device(sweep.execution.device)
    images, classes = splits.describe(sweep.dataset)
    check_space(sweep, images, classes)
    teachers.check(sweep, root)
    folder = root.study(sweep.name)
    # once the study has begun they are enqueued, and their files may be gone
    known = [] if folder.sweep.exists() else find_known(sweep, images, classes)
    is_new = not folder.path.exists()

    def tell(line: str) -> None:
        observe(progress, line)

    with driver_lock(folder), ExitStack() as stack:
        if folder.sweep.exists():
            before, ended = load_stored_sweep(folder.sweep), len(folder.ended())
            if before.candidate != sweep.candidate:  # an older one may lack new defaults
                before = load_sweep(folder.sweep)
            sweep = resume.resumed(sweep, before, ended, new_total, tell)
            resume.refuse_other_sweep(before, sweep)
            progress.total = sweep.search.trials
        try:
            enter("loading the dataset")
            loaded = splits.load(sweep.dataset)
            fingerprints = loaded.fingerprints()
            resume.refuse_other_images(folder, fingerprints)
            engine, device = open_engine(loaded, sweep.dataset, sweep.execution, tell)
            stack.callback(engine.close)
            enter("opening Optuna's and MLflow's records")
            study = open_study(sweep, folder)
            seed = samplers.start_seed(sweep.search.seed, len(study.get_trials(deepcopy=False)))
            study.sampler = samplers.create(sweep.search.sampler, seed)
            for params in known:
                study.enqueue_trial(params, skip_if_exists=True)
            text = dump_yaml(sweep.dump())
            write_text(folder.sweep, text, private=masked(text) != text)
            resume.keep(folder, fingerprints)
            projection = Projection(sweep, root, study, progress.outcomes, tell)
            projection.begin(device)
            study_id(folder)  # also where MLflow does not answer
        except BaseException:
            if is_new and not folder.identity.exists():  # else MLflow may know of it
                shutil.rmtree(folder.path, ignore_errors=True)
            raise
        finished = False
        try:
            shared = teachers.Teachers(root, fingerprints["train"].digest, sweep)
            driver = Driver(sweep, root, study, engine, projection, shared, progress, observe)
            finished = driver.run()
        except StorageInternalError as error:
            raise ValueError(f"Optuna's storage failed: {reason(error, sweep)}") from error
        finally:
            projection.close(finished)
        return progress


def check_space(sweep: Sweep, images: Input, classes: int) -> None:
    """Tries the options of the sweep's space on the dataset's images.

    `load_sweep` has tried those of datasets whose images it knows.

    Raises:
        ValueError: Some option does not go with them.
    """
    if sweep.dataset.name in SHAPES:
        return
    wrong = invalid_options(sweep.space, images, classes)
    if wrong:
        lines = (f"{dotted(('candidate', *key))}: {message}" for key, message in wrong)
        raise ValueError("\n".join(lines))


def find_known(sweep: Sweep, images: Input, classes: int) -> list[dict[str, Any]]:
    """The choices that draw the candidates of `search.start_with`.

    Raises:
        ValueError: One is no candidate, or none that the space can draw.
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
