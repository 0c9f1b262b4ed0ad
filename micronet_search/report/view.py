"""What the files of a study say, whether its driver runs or not."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from micronet_search.config.files import load_candidate, load_stored_sweep
from micronet_search.config.sweep import Sweep, Tracking
from micronet_search.report import explain
from micronet_search.store.outcome import Outcome, read_outcomes
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.survey import Survey, score_of, survey

_SHOWN = ("scores", "parameters", "nonzeros", "macs")


@dataclass(frozen=True)
class View:
    """A study that was read from its files: the outcomes of the trials that have ended by number.

    The trials that are `unfinished` are running or were interrupted.
    """

    sweep: Sweep
    folder: StudyFolder
    outcomes: dict[int, Outcome]
    unfinished: tuple[int, ...]
    survey: Survey

    @property
    def score_title(self) -> str:
        """The title of a column of scores."""
        return f"score ({self.sweep.objectives.score.rule})"

    def score(self, number: int) -> float:
        """Returns a trial's score by the study's score rule."""
        return score_of(self.outcomes[number], self.sweep.objectives)

    def front(self) -> list[dict[str, Any]]:
        """Returns the trials on the front as plain values, lowest score first; none is an error."""
        if not self.survey.front:
            goals = self.sweep.objectives
            raise ValueError(
                f"the front of {self.sweep.name} is empty: none of its {len(self.outcomes)} trials "
                f"has accuracy >= {goals.accuracy.at_least:g} and {goals.score.rule} score "
                f"<= {goals.score.at_most:g}"
            )
        rows = []
        for number in self.survey.front:
            outcome, file = self.outcomes[number], self.folder.trial(number).candidate
            row = {"trial": number, "accuracy": outcome.accuracy, "score": self.score(number)}
            row |= {name: getattr(outcome, name) for name in _SHOWN}
            rows.append(row | {"candidate": load_candidate(file).model_dump(mode="json")})
        return rows


def read(root: Root, name: str) -> View:
    """Reads a study from its files; a study that is missing or damaged is a ValueError."""
    folder = root.started(name)
    sweep = load_stored_sweep(folder.sweep)
    outcomes = read_outcomes(folder, sweep.objectives.score.rule)
    unfinished = tuple(number for number in folder.trials() if number not in outcomes)
    return View(sweep, folder, outcomes, unfinished, survey(outcomes, sweep.objectives))


def read_all(root: Root) -> list[View]:
    """Reads every study under a root that can be read, and warns of the others."""
    views = []
    for name in root.studies():
        with _warned(name):
            views.append(read(root, name))
    return views


def tracking(root: Root) -> Tracking:
    """Returns where the study that was started last, of those that can be read, has its records."""
    sweeps = {name: root.study(name).sweep for name in root.studies()}
    for name in sorted(sweeps, key=lambda name: sweeps[name].stat().st_mtime, reverse=True):
        with _warned(name):
            return load_stored_sweep(sweeps[name]).tracking
    return Tracking()


@contextmanager
def _warned(name: str) -> Iterator[None]:
    try:
        yield
    except (ValueError, OSError) as error:
        reason, *_ = explain(error).splitlines()
        print(f"warning: the study {name} is left out: {reason}", file=sys.stderr)
