"""What a report is made of: everything that is read of a study, gathered once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property

from micronet_search.config.candidate import Candidate
from micronet_search.config.files import load_candidate
from micronet_search.report import explain
from micronet_search.report.page.known import Known, comparable
from micronet_search.report.view import View, read
from micronet_search.scoring.cost import Cost
from micronet_search.store.outcome import Outcome, read_repeats
from micronet_search.store.paths import Repeat, Root
from micronet_search.study.clock import Clock
from micronet_search.study.history import History, read_history
from micronet_search.study.start import Start, read_start
from micronet_search.study.survey import is_feasible, violations


@dataclass(frozen=True)
class Best:
    """The trial that a report is about.

    Attributes:
        number: The trial's.
        confirmed: Whether its repeats reach the goal on the test split.
        feasible: Whether it meets every goal; if not, it is the trial that misses them least.
        cost: Of the tensors that are shipped; None where they cannot be read.
    """

    number: int
    confirmed: bool
    feasible: bool
    candidate: Candidate | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class Facts:
    """What is known of a study.

    Attributes:
        history: Every draw as Optuna knows it; without any where its storage cannot be read.
        best: The network that won; None where no trial is complete.
        repeats: The outcomes of the repeats.
        known: Results of others that the study can be compared with.
        seconds: How long the driver ran; None if that is not known.
        start: What it ran on.
        troubles: What could not be read, in words.
    """

    view: View
    history: History = field(default_factory=lambda: History({}, {}))
    best: Best | None = None
    repeats: Mapping[Repeat, Outcome] = field(default_factory=dict)
    known: tuple[Known, ...] = ()
    seconds: float | None = None
    start: Start = field(default_factory=Start)
    troubles: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The study's name."""
        return self.view.sweep.name

    @property
    def at_most(self) -> float:
        """The goal for the score."""
        return self.view.sweep.objectives.score.at_most

    @cached_property
    def complete(self) -> list[int]:
        """The numbers of the complete trials."""
        return [n for n, one in self.view.outcomes.items() if one.state == "complete"]

    @cached_property
    def stopped(self) -> list[int]:
        """The numbers of the trials that were stopped at a rung."""
        return [n for n, one in self.view.outcomes.items() if one.state == "stopped"]

    @cached_property
    def failed(self) -> list[int]:
        """The numbers of the trials that failed."""
        return [n for n, one in self.view.outcomes.items() if one.state == "failed"]

    @cached_property
    def feasible(self) -> list[int]:
        """The numbers of the trials that meet every goal."""
        goals = self.view.sweep.objectives
        return [n for n in self.complete if is_feasible(self.view.outcomes[n], goals)]

    def accuracy(self, number: int) -> float:
        """Returns the accuracy of a trial that did not fail, on the validation split, 0 to 1."""
        found = self.view.outcomes[number].accuracy
        assert found is not None, number
        return found

    def seconds_of(self, number: int) -> float:
        """Returns how long a trial took."""
        return sum(self.view.outcomes[number].seconds.values())


def gather(root: Root, name: str, at_least: float | None = None) -> Facts:
    """Reads a study, whose driver may be at work; nothing is written.

    What is not needed for the front is left out where it cannot be read, and told.

    Raises:
        ValueError: The study is missing or damaged.
    """
    view, troubles = read(root, name, at_least), []
    try:
        history = read_history(view.folder, view.sweep)
    except ValueError as error:
        history = History({}, {})
        troubles.append(f"The choices of the trials are left out: {explain(error)}.")
    best = winner(view)
    if best is not None:
        try:
            best = _measured(view, best)
        except (ValueError, OSError) as error:
            reason = f"left out: {explain(error)}."
            troubles.append(f"The network of trial {best.number} is {reason}")
    seconds, start = None, Start()
    with suppress(ValueError, OSError):
        start = read_start(view.folder)
    with suppress(ValueError, OSError):
        if view.folder.clock.exists():
            seconds = Clock(view.folder.clock, None).seconds
    return Facts(
        view,
        history,
        best,
        repeats=read_repeats(view.folder, view.sweep.objectives.score.rule),
        known=comparable(view.sweep, best.candidate if best else None),
        seconds=seconds,
        start=start,
        troubles=tuple(troubles),
    )


def winner(view: View) -> Best | None:
    """Returns the trial that `export --best` ships, or else the one that misses the goals least."""
    confirmed = [
        number
        for number, found in view.confirmations.items()
        if number in view.outcomes and found.reaches(view.goal)
    ]
    if confirmed:
        cheapest = min(confirmed, key=lambda number: (view.score(number), number))
        return Best(cheapest, confirmed=True, feasible=True)
    if view.survey.front:
        return Best(view.survey.front[0], confirmed=False, feasible=True)
    goals = view.sweep.objectives
    missed = {
        number: sum(max(missed, 0.0) for missed in violations(outcome, goals).values())
        for number, outcome in view.outcomes.items()
        if outcome.state == "complete"
    }
    if not missed:
        return None
    nearest = min(missed, key=lambda number: (missed[number], number))
    return Best(nearest, confirmed=False, feasible=False)


def _measured(view: View, best: Best) -> Best:
    """Adds the candidate, and the cost of the tensors that an export would ship."""
    from micronet_search import build, shipped

    candidate = load_candidate(view.folder.trial(best.number).candidate)
    found = shipped.load(view.shipped(best.number).path)
    cost = build.predict(found.candidate).measured(found.tensors)
    return Best(best.number, best.confirmed, best.feasible, candidate, cost)
