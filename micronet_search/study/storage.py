"""Optuna's storage of a study, opened under the driver's lock."""

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection

from micronet_search.store.journal import cut_to_last_whole_line
from micronet_search.store.paths import StudyFolder
from micronet_search.study import resume
from micronet_search.tracking.client import masked

DIRECTIONS = [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]


def open_study(folder: StudyFolder, url: str | None) -> optuna.Study:
    """Creates or opens the Optuna study of a folder; call it under the driver's lock.

    Args:
        folder: The study's folder, whose name is the study's.
        url: A shared database that stores the study; None for the journal in the folder.

    Raises:
        ValueError: The storage cannot be used, or is not the one of the study's trials.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
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
    return study


def reason(error: Exception, url: str | None) -> str:
    """Returns the first line of an error of the storage, without passwords."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return masked(line, url or "")
