"""Optuna's storage of a study, opened under the driver's lock."""

from __future__ import annotations

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from micronet_search.config.sweep import Sweep
from micronet_search.store.journal import cut_to_last_whole_line
from micronet_search.store.paths import StudyFolder
from micronet_search.study import resume
from micronet_search.tracking.passwords import masked

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


def open_study(sweep: Sweep, folder: StudyFolder) -> optuna.Study:
    """Creates or opens the Optuna study; call it under the driver's lock.

    Raises:
        ValueError: The storage cannot be used, or is not the one of the study's trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    cut_to_last_whole_line(folder.journal)
    try:
        storage: BaseStorage | str = sweep.tracking.optuna or JournalStorage(
            JournalFileBackend(str(folder.journal))
        )
        study = optuna.create_study(
            study_name=sweep.name, storage=storage, directions=DIRECTIONS, load_if_exists=True
        )
    except OSError:
        raise
    except Exception as error:
        place = "tracking.optuna" if sweep.tracking.optuna else str(folder.journal)
        raise ValueError(
            f"{place}: expected a storage of Optuna's that answers, found: {reason(error, sweep)}"
        ) from error
    resume.refuse_other_storage(folder, study)
    if sweep.tracking.optuna:
        resume.claim(folder, study)
    return study


def reason(error: Exception, sweep: Sweep) -> str:
    """Returns the first line of an error of the storage, without passwords."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return masked(line, sweep.tracking.optuna or "")
