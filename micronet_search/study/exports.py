"""Exports in MLflow: what a shipped network takes to run, on the run of its trial."""

from collections.abc import Mapping

from micronet_search.store.paths import StudyFolder
from micronet_search.store.runtime import read_runtime
from micronet_search.tracking.recorder import Recorder


def record_exports(recorder: Recorder, folder: StudyFolder) -> None:
    """Records what MLflow lacks of the trials that were exported; the first measurement stays.

    Raises:
        ValueError: A file is damaged.
    """
    for number in folder.ended():
        path = folder.trial(number).runtime
        if path.exists():
            found = read_runtime(path)
            known, figures = recorder.metrics_of(number), _named(found.figures)
            new = {name: value for name, value in figures.items() if name not in known}
            recorder.record_more(number, new, found.measured)


def _named(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures under their names in MLflow, which makes a section of `runtime/`."""
    return {n if n == "latency_ms" else f"runtime/{n}": value for n, value in figures.items()}
