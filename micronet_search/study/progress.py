"""How far a study is: the driver keeps it up to date, and the display shows it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from micronet_search.config.sweep import Objectives, Sweep
from micronet_search.store.outcome import Outcome
from micronet_search.study.survey import (
    Survey,
    extended,
    is_feasible,
    score_of,
    stagnant_trials,
)


@dataclass(frozen=True)
class Running:
    """The progress of a job that holds a slot.

    Attributes:
        name: What it is called.
        epoch: The number of epochs trained.
        epochs: The number of epochs in all; 0 before the first.
        accuracy: The last accuracy on the validation split; None before the first epoch.
        stage: The stage of the last epoch; None before the first.
    """

    name: str
    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None
    stage: str | None = None


@dataclass
class Progress:
    """How far a study is.

    Attributes:
        total: How many trials are asked for.
        outcomes: The outcomes of the trials that have ended, by number.
        running: The jobs that hold a slot: trials by their number, teachers by a negative one.
        screened: How many draws were screened out, over all starts.
        feasible: The numbers of the feasible trials.
        spent: The seconds that the trials that have ended took, together.
        seconds_left: When the hours are up, or the trials probably done; None if that is unknown.
        phase: What is being done before the first trial starts; None from then on.
        paused: Why the study waits short of its total; None while it runs, or once it is finished.
        goals: Those of a search; None where repeats or a baseline are trained.
    """

    total: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    screened: int = 0
    survey: Survey = field(default_factory=Survey)
    feasible: set[int] = field(default_factory=set)
    spent: float = 0.0
    seconds_left: float | None = None
    phase: str | None = None
    paused: Literal["interrupt", "hours"] | None = None
    goals: Objectives | None = None

    def add(self, number: int, outcome: Outcome, objectives: Objectives) -> None:
        """Adds a trial that has ended, and brings the survey up to date with it."""
        self.note(number, outcome)
        if is_feasible(outcome, objectives):
            self.feasible.add(number)
        self.survey = extended(self.survey, number, self.outcomes, objectives)

    def note(self, number: int, outcome: Outcome) -> None:
        """Adds a job that has ended, and says nothing of the front."""
        self.outcomes[number] = outcome
        self.spent += sum(outcome.seconds.values())

    def line(self, number: int, objectives: Objectives) -> str:
        """Returns how a trial ended, for the log."""
        outcome = self.outcomes[number]
        text = f"trial {number} {outcome.state}"
        if outcome.accuracy is not None:
            text += f": accuracy {outcome.accuracy:.4f}, score {score_of(outcome, objectives):.6f}"
            if outcome.latency_ms is not None:
                text += f", latency {outcome.latency_ms:.3f} ms"
            text += ", feasible" if number in self.feasible else ""
        text += ", on the front" if number in self.survey.front else ""
        return text + (f": {outcome.reason}" if outcome.reason else "")

    def is_stagnant(self, sweep: Sweep) -> bool:
        """Returns whether the sweep's `stop_when` ends the study."""
        when, goals = sweep.search.stop_when, sweep.objectives
        if when is None:
            return False
        return stagnant_trials(self.survey, self.outcomes, goals) >= when.stagnant_trials

    def estimate(self, limit: float | None, slots: int) -> None:
        """Sets `seconds_left` to the limit, or to the probable time of the trials if that is less.

        Args:
            limit: The seconds until the study's hours are up; None without a limit.
            slots: How many trials run at once.
        """
        bounds = [] if limit is None else [limit]
        if self.outcomes:
            ended = len(self.outcomes)
            bounds.append((self.total - ended) * self.spent / ended / max(1, slots))
        self.seconds_left = max(0.0, min(bounds)) if bounds else None


Observer = Callable[[Progress, str | None], None]
"""Is called whenever the progress changes, with a line for the log if there is news.

A new phase is news too, and is logged without a line of its own.
"""
