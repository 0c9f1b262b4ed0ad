"""Repeats in MLflow: a run for each, and what those of a trial say together on the trial's."""

from collections.abc import Mapping
from typing import Any

from micronet_search.config.sweep import Sweep
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Repeat, StudyFolder
from micronet_search.study.confirmation import Confirmation, gathered
from micronet_search.study.resume import read_fingerprints
from micronet_search.tracking.recorder import Recorder


def read_confirmations(
    folder: StudyFolder, repeats: Mapping[Repeat, Outcome]
) -> dict[int, Confirmation]:
    """Returns what the repeats of a study say of each trial, by its number."""
    if not repeats:
        return {}
    return gathered(repeats, sum(read_fingerprints(folder)["test"].sizes))


def record_repeats(
    recorder: Recorder, sweep: Sweep, folder: StudyFolder, repeats: Mapping[Repeat, Outcome]
) -> dict[int, dict[str, Any]]:
    """Records the repeats that MLflow lacks.

    Returns:
        The figures of each trial that was repeated, by its number, as plain values.
    """
    goal = sweep.objectives.accuracy.at_least
    confirmations = read_confirmations(folder, repeats)
    figures = {trial: one.to_json(goal) for trial, one in confirmations.items()}
    for repeat, outcome in repeats.items():
        files = folder.repeat(repeat)
        if files.path.name not in recorder.repeated:
            recorder.record_repeat(files.path.name, repeat.trial, outcome, files.artifacts)
    for trial, found in figures.items():
        latest = max(outcome.ended for repeat, outcome in repeats.items() if repeat.trial == trial)
        recorder.record_more(trial, _named(found), latest, step=found["seeds"])
    return figures


def _named(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the figures under their names in MLflow, which makes a section of `test/`."""
    plain = ("test_accuracy", "confirmed")
    return {n if n in plain else f"test/{n.removeprefix('test_')}": v for n, v in figures.items()}
