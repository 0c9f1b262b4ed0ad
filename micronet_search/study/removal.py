"""Deleting a study: its records first, then its folder."""

import shutil
from contextlib import suppress

import optuna

from micronet_search.config.files import load_stored_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.store.owner import driver_lock, study_id
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.start import read_start
from micronet_search.study.storage import reason
from micronet_search.tracking.client import connect, reported, tracking_uri
from micronet_search.tracking.database import database_file
from micronet_search.tracking.runs import find_children, is_deleted


def delete(root: Root, name: str, *, keep_records: bool = False) -> None:
    """Deletes a study whose driver does not run; teachers are shared, and stay.

    MLflow marks the experiment as deleted, and can restore it. Deleting records twice changes
    nothing, and once the folder has another name the study is gone: so the same call finishes one
    that was interrupted.

    Args:
        root: The folder of all studies.
        name: The study's.
        keep_records: Whether MLflow and a database of Optuna's keep what they have of it.

    Raises:
        ValueError: There is no such study, its driver runs, another study still needs its networks,
            or its records do not answer.
    """
    folder = root.study(name)
    gone = folder.path.with_name(f".{name}.deleted")  # no name of a study begins with a dot
    if gone.exists():  # an earlier call was interrupted
        shutil.rmtree(gone)
        if not folder.sweep.exists():
            return
    root.started(name)
    _refuse_where_needed(root, name)
    with driver_lock(folder):
        if not keep_records:
            sweep = load_stored_sweep(folder.sweep)
            owns_draws = _owns_draws(folder, sweep)
            _delete_runs(root, folder, sweep)
            if owns_draws:
                optuna.delete_study(study_name=name, storage=str(sweep.tracking.optuna))
        folder.path.rename(gone)
    shutil.rmtree(gone)


def _refuse_where_needed(root: Root, name: str) -> None:
    """Refuses to delete networks from which the trials of another study begin."""
    for other in root.studies():
        folder = root.study(other)
        needs = False
        with suppress(ValueError, OSError):  # one that is damaged cannot go on
            start = load_stored_sweep(folder.sweep).search.start_from
            needs = start is not None and start.study == name and not read_start(folder).finished
        if needs:
            raise ValueError(
                f"the study {other} is not finished, and its trials start from {name}; delete "
                f"{other} first"
            )


def _owns_draws(folder: StudyFolder, sweep: Sweep) -> bool:
    """Returns whether the draws of this folder's study are in a database of Optuna's."""
    url = sweep.tracking.optuna
    if not url:
        return False
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.load_study(study_name=folder.path.name, storage=url)
        owner = study.user_attrs.get("owner")
    except KeyError:  # it is deleted already
        return False
    except Exception as error:
        found = f"found: {reason(error, url)}"
        raise ValueError(
            f"tracking.optuna: expected a storage of Optuna's that answers, {found}; nothing is "
            "deleted, and --keep-records deletes the folder alone"
        ) from error
    return owner is None or bool(owner["id"] == study_id(folder))


def _delete_runs(root: Root, folder: StudyFolder, sweep: Sweep) -> None:
    """Marks a study's experiment as deleted in MLflow, or its runs where it shares that."""
    uri = tracking_uri(sweep.tracking, root)
    if (file := database_file(uri)) is not None and not file.exists():
        return
    try:
        client = connect(uri)
    except ValueError as error:
        hint = "nothing is deleted, and --keep-records deletes the folder alone"
        raise ValueError(f"{error}; {hint}") from error
    with reported(uri):
        experiment = client.get_experiment_by_name(sweep.name)
        if experiment is None or experiment.lifecycle_stage == "deleted":
            return
        place, identity = [experiment.experiment_id], study_id(folder)
        parents = client.search_runs(place, "tags.study LIKE '%'")
        mine = [run for run in parents if run.data.tags["study"] == identity]
        others = [run for run in parents if run not in mine and "superseded" not in run.data.tags]
        if not others:
            client.delete_experiment(experiment.experiment_id)
            return
        for parent in mine:  # a server is shared by studies of one name, of other machines
            for run in (*find_children(client, parent), parent):
                if not is_deleted(run):
                    client.delete_run(run.info.run_id)
