"""A study as its files tell it, whether its driver runs or not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from micronet_search.config.candidate import Candidate
from micronet_search.config.files import load_candidate, load_stored_sweep
from micronet_search.config.sweep import Sweep, Tracking
from micronet_search.store.outcome import Outcome, read_outcomes
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.survey import Survey, score_of, survey

Found = TypeVar("Found")
Warn = Callable[[str, Exception], None]
"""Is told the name of a study that cannot be read, and why."""


@dataclass(frozen=True)
class View:
    """What there is of a study.

    Attributes:
        sweep: As run.
        folder: Its files.
        outcomes: Of the trials that have ended, by number.
        unfinished: Numbers of the trials that run or were left.
        survey: The front among them.
    """

    sweep: Sweep
    folder: StudyFolder
    outcomes: dict[int, Outcome]
    unfinished: tuple[int, ...]
    survey: Survey

    def count(self, state: str) -> int:
        """How many trials ended in a state: complete, stopped or failed."""
        return sum(outcome.state == state for outcome in self.outcomes.values())

    def candidate(self, number: int) -> Candidate:
        """What a trial evaluated."""
        return load_candidate(self.folder.trial(number).candidate)

    def score(self, number: int) -> float:
        """A trial's score by the rule that the study minimises."""
        return score_of(self.outcomes[number], self.sweep.objectives)

    def front(self) -> list[dict[str, Any]]:
        """The trials on the front, lowest score first.

        Raises:
            ValueError: No trial is feasible.
        """
        if not self.survey.front:
            goals = self.sweep.objectives
            raise ValueError(
                f"the front of {self.sweep.name} is empty: none of its {len(self.outcomes)} trials "
                f"has accuracy >= {goals.accuracy.at_least:g} and {goals.score.rule} score "
                f"<= {goals.score.at_most:g}"
            )
        return [self._row(number) for number in self.survey.front]

    def _row(self, number: int) -> dict[str, Any]:
        outcome = self.outcomes[number]
        return {
            "trial": number,
            "accuracy": outcome.accuracy,
            "score": self.score(number),
            "scores": outcome.scores,
            "parameters": outcome.parameters,
            "nonzeros": outcome.nonzeros,
            "macs": outcome.macs,
            "candidate": self.candidate(number).model_dump(mode="json"),
        }


def read(root: Root, name: str) -> View:
    """Reads a study from its files.

    Raises:
        ValueError: There is no such study, or its files are damaged.
    """
    folder = root.started(name)
    sweep = load_stored_sweep(folder.sweep)
    outcomes = read_outcomes(folder, sweep.objectives.score.rule)
    unfinished = [number for number in folder.trials() if number not in outcomes]
    found = survey(outcomes, sweep.objectives)
    return View(sweep, folder, outcomes, tuple(unfinished), found)


def read_all(root: Root, warn: Warn) -> list[View]:
    """Reads the studies under a root that can be read."""
    return list(_readable(root.studies(), lambda name: read(root, name), warn))


def tracking(root: Root, warn: Warn) -> Tracking:
    """Where the studies under a root keep their records: where the last one started does."""
    sweeps = {name: root.study(name).sweep for name in root.studies()}
    newest = sorted(sweeps, key=lambda name: sweeps[name].stat().st_mtime, reverse=True)
    found = _readable(newest, lambda name: load_stored_sweep(sweeps[name]).tracking, warn)
    return next(found, Tracking())


def _readable(
    names: Iterable[str], read_one: Callable[[str], Found], warn: Warn
) -> Iterator[Found]:
    for name in names:
        try:
            found = read_one(name)
        except (ValueError, OSError) as error:
            warn(name, error)
        else:
            yield found
