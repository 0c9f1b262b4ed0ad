"""Which draws are screened out before training, and how far a trial misses the constraints."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from micronet_search.config.sweep import Objectives

MAX_SCREENED_IN_A_ROW = 100
"""How many screened draws in a row end a study."""

DIGEST = "digest"
"""The attribute of a trial in Optuna that keeps the digest of its candidate."""

LATENCY = "latency"
"""The name of the constraint on the latency, where there is one."""

SCREENED = "screened"
"""The attribute that says in Optuna why a draw was screened; trained trials do not have it."""


def violations(
    accuracy: float, score: float, objectives: Objectives, latency: float | None = None
) -> dict[str, float]:
    """Returns how far the constraints are missed, as a fraction of their bounds.

    A constraint is met if its violation is not above 0. A latency that was not measured says
    nothing of that constraint.
    """
    at_least, at_most = objectives.accuracy.at_least, objectives.score.at_most
    found = {"accuracy": (at_least - accuracy) / at_least, "score": (score - at_most) / at_most}
    if objectives.latency is not None and latency is not None:
        found[LATENCY] = latency / objectives.latency.at_most - 1
    return found


def feasible(violations: Mapping[str, float]) -> bool:
    """Returns whether every constraint is met."""
    return all(violation <= 0 for violation in violations.values())


@dataclass(frozen=True)
class Screened:
    """Why a draw is not trained.

    Attributes:
        message: The reason in words, with what was found and what was expected.
        score: The predicted score; infinite if there is none.
        of: The number of the trial that a duplicate repeats.
    """

    reason: Literal["score", "duplicate", "impossible"]
    message: str
    score: float
    of: int | None = None


def screen(
    digest: str, score: float, objectives: Objectives, seen: Mapping[str, int]
) -> Screened | None:
    """Returns why a draw is screened out, by its digest and predicted score; None if it is not.

    `seen` has the numbers of all trials by their digests, running and failed ones included.
    """
    at_most = objectives.score.at_most
    if score > at_most:
        message = f"predicted score {score:.4g}, expected at most {at_most:.4g}"
        return Screened("score", message, score)
    if (of := seen.get(digest)) is not None:
        return Screened("duplicate", f"the same candidate as trial {of}", score, of)
    return None


def impossible(message: str) -> Screened:
    """Screens out a draw whose choices make no valid candidate together."""
    return Screened("impossible", f"no candidate: {message}", math.inf)


def describe_end(screened: Sequence[Screened], objectives: Objectives) -> str:
    """Says why a study ends after screened draws alone, and what to change in the sweep."""
    reasons = Counter(item.reason for item in screened)
    by_score, duplicates = reasons["score"], reasons["duplicate"]
    found = (
        f"{len(screened)} draws in a row were screened, "
        f"{by_score} by predicted score and {duplicates} as duplicates"
    )
    if reasons["impossible"] > by_score + duplicates:
        return f"{found}, the others make no candidate: narrow the ranges that do not go together"
    if duplicates > by_score:
        return f"{found}: the space is exhausted, or nearly so; search more values of `candidate`"
    lowest = min(item.score for item in screened if item.reason != "duplicate")
    return (
        f"{found}: the lowest predicted score among them is {lowest:.4g}; "
        f"raise objectives.score.at_most ({objectives.score.at_most:.4g}), or widen `candidate` "
        "towards cheaper networks: smaller widths, fewer bits, more stride"
    )
