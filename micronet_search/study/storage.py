"""Optuna's storage of a study, opened under the driver's lock."""

import os
import warnings

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from micronet_search.config.files import load_stored_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.store.journal import cut_to_last_whole_line
from micronet_search.store.paths import StudyFolder
from micronet_search.study import resume
from micronet_search.tracking.client import masked

GOAL = "accuracy_at_least"
"""The attribute of a study in Optuna with the goal by which its trials are judged."""

_CONSTRAINT = "constraints:accuracy"  # where Optuna keeps what `set_constraint` was given
DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
OBJECTIVES = ["accuracy", "score"]


def open_study(folder: StudyFolder, sweep: Sweep) -> optuna.Study:
    """Creates or opens the Optuna study of a folder; call it under the driver's lock.

    Where the sweep has another goal for the accuracy than the study, its trials are judged anew.

    Args:
        folder: The study's folder, whose name is the study's.
        sweep: Says where the study is stored: in the folder, or in a database.

    Raises:
        ValueError: The storage cannot be used, or is not the one of the study's trials, or a
            database has judged them by another goal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    url = sweep.tracking.optuna
    cut_to_last_whole_line(folder.journal)
    try:
        storage: BaseStorage | str = url or JournalStorage(JournalFileBackend(str(folder.journal)))
        study = optuna.create_study(
            study_name=folder.path.name,
            storage=storage,
            directions=DIRECTIONS,
            load_if_exists=True,
        )
    except OSError:
        raise
    except Exception as error:
        place = "tracking.optuna" if url else str(folder.journal)
        raise ValueError(
            f"{place}: expected a storage of Optuna's that answers, found: {reason(error, url)}"
        ) from error
    resume.refuse_other_storage(folder, study)
    if url:
        resume.claim(folder, study)
    _name_objectives(study)
    goal = sweep.objectives.accuracy.at_least
    stored = load_stored_sweep(folder.sweep) if folder.sweep.exists() else sweep
    before = study.user_attrs.get(GOAL, stored.objectives.accuracy.at_least)
    if before == goal:
        study.set_user_attr(GOAL, goal)
        return study
    if url:
        raise ValueError(
            f"found accuracy.at_least {goal:g} beside trials that a database has judged by "
            f"{before:g}, expected the same, or another name for the sweep and "
            f"search.start_from: {folder.path.name}"
        )
    _judge_anew(study, folder, before, goal)
    return open_study(folder, sweep)


def _name_objectives(study: optuna.Study) -> None:
    """Names the objectives for Optuna's own pictures and Optuna Dashboard, once for a study."""
    if study.metric_names != OBJECTIVES:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(OBJECTIVES)


def _judge_anew(study: optuna.Study, folder: StudyFolder, before: float, goal: float) -> None:
    """Replaces the journal by one with the constraints of another goal for the accuracy.

    Optuna lets nobody change the constraint of a trial that has ended.
    """
    path = folder.journal.with_name(f"{folder.journal.name}.new")
    path.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(path)))
    copy = optuna.create_study(study_name=study.study_name, storage=storage, directions=DIRECTIONS)
    for key, value in (study.user_attrs | {GOAL: goal}).items():
        copy.set_user_attr(key, value)
    for trial in study.get_trials():
        if (missed := trial.system_attrs.get(_CONSTRAINT)) is not None:
            accuracy = before * (1 - missed) if trial.values is None else trial.values[0]
            trial.system_attrs[_CONSTRAINT] = (goal - accuracy) / goal
        copy.add_trial(trial)
    os.replace(path, folder.journal)


def reason(error: Exception, url: str | None) -> str:
    """Returns the first line of an error of the storage, without passwords."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return masked(line, url or "")
