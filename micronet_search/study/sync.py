"""Bringing MLflow up to date with a study that does not run."""

from micronet_search.config.files import load_stored_sweep
from micronet_search.store.outcome import read_outcomes
from micronet_search.store.owner import driver_lock
from micronet_search.store.paths import Root
from micronet_search.study.projection import Projection
from micronet_search.study.storage import open_study


def sync(root: Root, name: str) -> int:
    """Brings MLflow up to date with the folder of a study whose driver does not run.

    Returns:
        How many trials MLflow lacked.

    Raises:
        ValueError: There is no such study, its driver runs, a file or Optuna's storage is damaged,
            or MLflow does not answer.
    """
    folder = root.started(name)
    sweep = load_stored_sweep(folder.sweep)
    with driver_lock(folder):
        outcomes = read_outcomes(folder, sweep.objectives.score.rule)
        study = open_study(folder, sweep)
        return Projection(sweep, root, study, outcomes, print).flush()
