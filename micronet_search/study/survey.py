"""Which trials are feasible, which of them are the front, and what that is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from micronet_search.config.sweep import Objectives
from micronet_search.search import pareto, screening
from micronet_search.store.outcome import Outcome


@dataclass(frozen=True)
class Survey:
    """What a study has found.

    Attributes:
        front: Numbers of the trials on the front, lowest score first.
        best_score: The lowest among the feasible trials; None where there are none.
        hypervolume: Of the front, beyond the two goals.
    """

    front: tuple[int, ...] = ()
    best_score: float | None = None
    hypervolume: float = 0.0


def score_of(outcome: Outcome, objectives: Objectives) -> float:
    """A trial's score by the rule that the study minimises."""
    return outcome.scores[objectives.score.rule]["score"]


def violations(outcome: Outcome, objectives: Objectives) -> dict[str, float]:
    """How far a trial misses the constraints; empty for a failed one."""
    if outcome.accuracy is None:
        return {}
    return screening.violations(outcome.accuracy, score_of(outcome, objectives), objectives)


def is_feasible(outcome: Outcome, objectives: Objectives) -> bool:
    """Whether a trial is complete and meets both constraints."""
    complete = outcome.state == "complete"
    return complete and screening.feasible(violations(outcome, objectives))


def survey(outcomes: Mapping[int, Outcome], objectives: Objectives) -> Survey:
    """Finds the front among the trials, of equals the first."""
    feasible = {n: o for n, o in sorted(outcomes.items()) if is_feasible(o, objectives)}
    numbers = list(feasible)
    points = np.array([(o.accuracy, score_of(o, objectives)) for o in feasible.values()])
    points = points.reshape(-1, 2).astype(float)
    return Survey(
        front=tuple(numbers[i] for i in pareto.front(points)),
        best_score=float(points[:, 1].min()) if numbers else None,
        hypervolume=pareto.hypervolume(
            points, (objectives.accuracy.at_least, objectives.score.at_most)
        ),
    )
