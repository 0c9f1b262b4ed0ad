"""Studies from notebooks and scripts.

Example:
    import micronet_search as ms

    study = ms.run("sweeps/quickstart.yaml")
    study.front()                      # a DataFrame, the lowest score first
    network = study.best().network()   # a torch module, from uint8 images to logits
    study.best().export()
"""

from __future__ import annotations

from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from micronet_search.config.candidate import Candidate
from micronet_search.config.files import load_candidate, load_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.report.live import Display
from micronet_search.report.score import Scored
from micronet_search.report.view import View
from micronet_search.report.view import read as read_view
from micronet_search.runtime import OPSET_NEWEST
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Root

if TYPE_CHECKING:
    import pandas as pd

    from micronet_search.export.ship import Exported
    from micronet_search.shipped import Shipped

__all__ = ["Study", "StudyTrial", "load_sweep", "run", "score"]

ROOT = "mlruns"
"""The folder of all studies, where none is named."""


def run(
    sweep: str | PathLike[str] | Sweep,
    *,
    root: str | PathLike[str] = ROOT,
    trials: int | None = None,
    hours: float | None = None,
    device: str | None = None,
) -> Study:
    """Launches the study of a sweep, or resumes it; an interrupt pauses it after the epoch.

    Args:
        sweep: A sweep, or the path of its file.
        root: The folder of all studies.
        trials: How many trials in all, in place of the sweep's number.
        hours: How many hours in all, likewise.
        device: Where trials run, in place of the sweep's: auto, cpu, cuda or cuda:N.

    Raises:
        ValueError: The sweep is not valid, or the study cannot be resumed with it.
    """
    from micronet_search.study import opening

    loaded = sweep if isinstance(sweep, Sweep) else load_sweep(Path(sweep))
    loaded = loaded.override(
        search={"trials": trials, "hours": hours}, execution={"device": device}
    )
    with Display(loaded.name, Console(highlight=False)) as display:
        opening.run(loaded, Root(Path(root)), display, new_total=trials is not None)
    return Study(loaded.name, root)


def score(network: str | PathLike[str] | Candidate | Shipped) -> Scored:
    """Counts the cost of a network, and scores it by every rule.

    Args:
        network: A candidate; a network of `StudyTrial.network`; or the path of a candidate's YAML
            file, an ONNX file or a packed file.

    Raises:
        ValueError: It is something else, or the file is damaged.
    """
    from micronet_search import build
    from micronet_search.report.score import score as read
    from micronet_search.shipped import Shipped

    if isinstance(network, Candidate):
        return Scored("predicted", build.predict(network))
    if isinstance(network, Shipped):
        cost = build.predict(network.candidate).measured(network.tensors)
        return Scored("measured", cost)
    if not isinstance(network, str | PathLike):
        found = type(network).__name__
        raise ValueError(
            f"found a {found}, expected a candidate, a trial's network or a file; of any other "
            "module, its ONNX file"
        )
    return read(Path(network))


class Study:
    """A study under a root, as its files tell. `refresh` shows what has come since."""

    def __init__(
        self, name: str, root: str | PathLike[str] = ROOT, at_least: float | None = None
    ) -> None:
        """Finds a study.

        Args:
            name: The study's.
            root: The folder of all studies.
            at_least: A goal for the accuracy in place of the study's.

        Raises:
            ValueError: The study is missing or damaged.
        """
        self.name, self.root, self._at_least = name, Path(root), at_least
        self.refresh()

    def __repr__(self) -> str:
        ended, total = len(self._view.outcomes), self.sweep.search.trials
        front = len(self._view.survey.front)
        return f"<Study {self.name}: {ended} of {total} trials, {front} on the front>"

    def refresh(self) -> None:
        """Reads the files again."""
        self._view: View = read_view(Root(self.root), self.name, self._at_least)

    @property
    def sweep(self) -> Sweep:
        """The sweep as run, with every default."""
        return self._view.sweep

    def trials(self) -> pd.DataFrame:
        """Returns a row for each trial that has ended, by its number: figures, then choices."""
        import pandas as pd

        from micronet_search.study.history import read_history

        draws = read_history(self._view.folder, self.sweep).draws
        rows = {n: self._row(n) | dict(draws[n].params) for n in self._view.outcomes if n in draws}
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table.rename_axis("trial")

    def front(self) -> pd.DataFrame:
        """Returns the rows of `trials` that are on the front, the lowest score first."""
        found: pd.DataFrame = self.trials().loc[list(self._view.survey.front)]
        return found

    def trial(self, number: int) -> StudyTrial:
        """Returns a trial that has ended.

        Raises:
            ValueError: There is none of this number.
        """
        if number not in self._view.outcomes:
            raise ValueError(f"found no trial {number} of {self.name} that has ended")
        return StudyTrial(self, number)

    def best(self) -> StudyTrial:
        """Returns the trial of the lowest score: of those that are confirmed, if any is.

        Raises:
            ValueError: No trial is feasible.
        """
        rows = self._view.confirmed() or self._view.front()
        return self.trial(rows[0]["trial"])

    def _row(self, number: int) -> dict[str, Any]:
        outcome, found = self._view.outcomes[number], self._view.survey.front
        is_known = outcome.accuracy is not None
        return {
            "state": outcome.state,
            "accuracy": outcome.accuracy,
            "score": self._view.score(number) if is_known else None,
            "front": number in found,
            **outcome.totals(),
            "epochs": len(outcome.curve),
            "seconds": sum(outcome.seconds.values()),
        }


class StudyTrial:
    """A trial of a study that has ended."""

    def __init__(self, study: Study, number: int) -> None:
        """`Study.trial` and `Study.best` make it."""
        self.study, self.number = study, number
        self._view = study._view

    def __repr__(self) -> str:
        outcome = self.outcome
        known = "" if outcome.accuracy is None else f", accuracy {outcome.accuracy:.4f}"
        return f"<trial {self.number} of {self.study.name}: {outcome.state}{known}>"

    @property
    def outcome(self) -> Outcome:
        """How it ended, in numbers."""
        return self._view.outcomes[self.number]

    @cached_property
    def candidate(self) -> Candidate:
        """What was evaluated, every choice made."""
        return load_candidate(self._view.folder.trial(self.number).candidate)

    def curve(self) -> pd.DataFrame:
        """Returns a row for each epoch: stage, loss, accuracy on the validation split, seconds."""
        import pandas as pd

        return pd.DataFrame([vars(row) for row in self.outcome.curve]).set_index("epoch")

    def network(self) -> Shipped:
        """Returns the network that an export ships, from uint8 images (N, C, H, W) to logits.

        Of a trial that is confirmed it is that of the repeat with the median test accuracy.

        Raises:
            ValueError: The trial is not complete.
        """
        from micronet_search.shipped import load

        return load(self._view.shipped(self.number).path)

    def export(self, to: str | PathLike[str] | None = None, opset: int = OPSET_NEWEST) -> Exported:
        """Ships the network like `micronet-search export`, and returns what was exported.

        Args:
            to: The folder; `exports/STUDY/TRIAL` without.
            opset: The newest ONNX opset that `model.onnx` may use.

        Raises:
            ExportError: The ONNX file does not do what the network does.
            ValueError: The trial is not complete, or the dataset is another one.
        """
        from micronet_search.data.splits import load
        from micronet_search.export.ship import export_trial

        folder = Path("exports") / self.study.name / f"{self.number:04d}" if to is None else to
        splits = load(self.study.sweep.dataset)
        return export_trial(self._view.shipped(self.number), splits, Path(folder), opset)
