"""Which trials are feasible, which of them are on the front, and how good the front is."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from micronet_search.config.sweep import Objectives
from micronet_search.search import pareto, screening
from micronet_search.store.outcome import Outcome
from micronet_search.tracking.picture import Point


@dataclass(frozen=True)
class Survey:
    """What a study has found.

    Attributes:
        front: The numbers of the trials on the front, lowest score first.
        best_score: The lowest score of a feasible trial; None if there is no feasible trial.
        hypervolume: The hypervolume of the front, with the two goals as the reference point.
    """

    front: tuple[int, ...] = ()
    best_score: float | None = None
    hypervolume: float = 0.0


def score_of(outcome: Outcome, objectives: Objectives) -> float:
    """Returns the score of a trial that did not fail, by the study's score rule."""
    return outcome.scores[objectives.score.rule]["score"]


def front_row(number: int, outcome: Outcome, objectives: Objectives) -> dict[str, Any]:
    """Returns the figures of a trial on the front as plain values."""
    costs = {name: getattr(outcome, name) for name in ("parameters", "nonzeros", "macs")}
    if outcome.latency_ms is not None:
        costs["latency_ms"] = outcome.latency_ms
    score = score_of(outcome, objectives)
    return {"trial": number, "accuracy": outcome.accuracy, "score": score, **costs}


def violations(outcome: Outcome, objectives: Objectives) -> dict[str, float]:
    """Returns how far a trial misses each constraint; nothing for a failed trial."""
    if outcome.accuracy is None:
        return {}
    score = score_of(outcome, objectives)
    return screening.violations(outcome.accuracy, score, objectives, outcome.latency_ms)


def is_feasible(outcome: Outcome, objectives: Objectives) -> bool:
    """Returns whether a trial is complete and meets every constraint."""
    complete = outcome.state == "complete"
    return complete and screening.feasible(violations(outcome, objectives))


def meets_latency(outcome: Outcome, objectives: Objectives) -> bool:
    """Returns whether nothing is known of a trial that misses the goal for the latency."""
    return violations(outcome, objectives).get(screening.LATENCY, 0.0) <= 0


def leaders(outcomes: Mapping[int, Outcome], objectives: Objectives) -> tuple[int, ...]:
    """Returns the front, or that of all complete trials where none of them is feasible."""
    complete = {n: o for n, o in sorted(outcomes.items()) if o.state == "complete"}
    numbers = [list(complete)[i] for i in pareto.front(points(complete, objectives))]
    return survey(outcomes, objectives).front or tuple(numbers)


def points(outcomes: Mapping[int, Outcome], objectives: Objectives) -> pareto.Points:
    """Returns accuracy and score of the complete trials, in their order, shape (N, 2)."""
    complete = [outcome for outcome in outcomes.values() if outcome.state == "complete"]
    found = [(outcome.accuracy, score_of(outcome, objectives)) for outcome in complete]
    return np.array(found, dtype=float).reshape(-1, 2)


def dots(outcomes: Mapping[int, Outcome], objectives: Objectives) -> list[Point]:
    """Returns the complete and the stopped trials as the picture of the front has them."""
    return [
        Point(n, one.accuracy, score_of(one, objectives), is_feasible(one, objectives))
        for n, one in sorted(outcomes.items())
        if one.accuracy is not None
    ]


def survey(outcomes: Mapping[int, Outcome], objectives: Objectives) -> Survey:
    """Finds the front among the trials; of equal trials, the first is on it."""
    feasible = {n: o for n, o in sorted(outcomes.items()) if is_feasible(o, objectives)}
    numbers = list(feasible)
    found = points(feasible, objectives)
    goals = (objectives.accuracy.at_least, objectives.score.at_most)
    return Survey(
        front=tuple(numbers[i] for i in pareto.front(found)),
        best_score=float(found[:, 1].min()) if numbers else None,
        hypervolume=pareto.hypervolume(found, goals),
    )


def stagnant_trials(found: Survey, outcomes: Mapping[int, Outcome], objectives: Objectives) -> int:
    """Returns how many trials have ended since the hypervolume grew for the last time.

    Trials count in the order in which they ended, so that a study that was interrupted counts the
    same. What raised the hypervolume is on the front, or was replaced there by a trial that raised
    it later: so the last trial that raised it is on the front.

    Args:
        found: The survey of all trials.
        outcomes: Of all trials that have ended.
        objectives: The study's.
    """
    ends = {number: (outcome.ended, number) for number, outcome in outcomes.items()}
    least, most = objectives.accuracy.at_least, objectives.score.at_most
    front = points({number: outcomes[number] for number in found.front}, objectives)
    raised = zip(found.front, (front[:, 0] > least) & (front[:, 1] < most), strict=True)
    last = max((ends[number] for number, adds in raised if adds), default=(-math.inf, -1))
    return sum(end > last for end in ends.values())


def extended(
    found: Survey, number: int, outcomes: Mapping[int, Outcome], objectives: Objectives
) -> Survey:
    """Returns the survey of some trials and one more, given that of the trials without it.

    A trial that is off the front of some trials is off the front of more. So the front and the new
    trial give what all trials would, in a time that does not grow with their number.

    Args:
        found: The survey of the trials without the new one.
        number: The new trial's.
        outcomes: The outcomes of the new trial and of those on the front, or of more.
        objectives: The study's.
    """
    if not is_feasible(outcomes[number], objectives):
        return found
    return survey({each: outcomes[each] for each in (*found.front, number)}, objectives)
