"""How far a study is: what the driver shows and the display draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from micronet_search.store.outcome import Outcome
from micronet_search.study.survey import Survey


@dataclass(frozen=True)
class Running:
    """A trial that holds a slot, after its last epoch.

    Attributes:
        epoch: Epochs trained.
        epochs: Of how many.
        accuracy: On the validation split; None before the first epoch.
    """

    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None


@dataclass
class Progress:
    """How far a study is: what the display shows.

    Attributes:
        total: Trials asked for.
        outcomes: Of the trials that have ended, by number.
        running: The trials that hold a slot, and under negative numbers teachers.
        screened: Draws refused at this start.
        survey: What has been found.
        seconds_left: Until the hours are up, or as the trials so far suggest; None if unknown.
        phase: What is done before the first trial starts; None from then on.
        paused: Why the study waits short of its total; None while it runs or where it is finished.
    """

    total: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    screened: int = 0
    survey: Survey = field(default_factory=Survey)
    seconds_left: float | None = None
    phase: str | None = None
    paused: Literal["interrupt", "hours"] | None = None

    def estimate(self, hours_left: float | None, slots: int) -> None:
        """Sets `seconds_left` to the least of what the hours leave and the trials left may take.

        Args:
            hours_left: The seconds until the study's hours are up; None without a limit.
            slots: How many trials run at once.
        """
        bounds = [] if hours_left is None else [hours_left]
        if self.outcomes:
            took = [sum(outcome.seconds.values()) for outcome in self.outcomes.values()]
            left = self.total - len(self.outcomes)
            bounds.append(left * sum(took) / len(took) / max(1, slots))
        self.seconds_left = max(0.0, min(bounds)) if bounds else None


Observer = Callable[[Progress, str | None], None]
"""Is shown the progress whenever it changes, with a line for the log where something ended.

A phase is for the log too.
"""
