"""A study as its files tell it, whether its driver runs or not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from micronet_search.config.candidate import Candidate
from micronet_search.config.files import load_candidate, load_sweep
from micronet_search.config.sweep import Sweep, Tracking
from micronet_search.store.outcome import Outcome, read_outcomes
from micronet_search.store.paths import Root, StudyFolder
from micronet_search.study.survey import Survey, score_of, survey


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
    sweep = load_sweep(folder.sweep)
    outcomes = read_outcomes(folder, sweep.objectives.score.rule)
    unfinished = [number for number in folder.trials() if number not in outcomes]
    found = survey(outcomes, sweep.objectives)
    return View(sweep, folder, outcomes, tuple(unfinished), found)


def tracking(root: Root) -> Tracking:
    """Where the studies under a root keep their records: where the last one started does."""
    sweeps = [root.study(name).sweep for name in root.studies()]
    if not sweeps:
        return Tracking()
    return load_sweep(max(sweeps, key=lambda path: path.stat().st_mtime)).tracking
