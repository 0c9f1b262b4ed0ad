"""What is refused before training, and how far a trial misses the constraints."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from micronet_search.config.sweep import Objectives

MAX_SCREENED_IN_A_ROW = 100
"""Screened draws without a trial between them that end a study."""

SCREENED = "screened"
"""The attribute of a draw in Optuna that says why it was screened; trained trials have none."""


def violations(accuracy: float, score: float, objectives: Objectives) -> dict[str, float]:
    """How far the constraints are missed, relative to their bounds.

    Args:
        accuracy: A fraction, 0 to 1.
        score: The score, measured or predicted.
        objectives: The sweep's bounds.

    Returns:
        `(at_least - accuracy) / at_least` and `(score - at_most) / at_most` by the names
        `accuracy` and `score`; a constraint is met where its entry is not above 0.
    """
    at_least, at_most = objectives.accuracy.at_least, objectives.score.at_most
    return {
        "accuracy": (at_least - accuracy) / at_least,
        "score": (score - at_most) / at_most,
    }


def feasible(violations: Mapping[str, float]) -> bool:
    """Whether every constraint is met."""
    return all(violation <= 0 for violation in violations.values())


@dataclass(frozen=True)
class Screened:
    """Why a draw is refused before training.

    Attributes:
        reason: `score` where the predicted score is too high, `duplicate` of an earlier trial,
            `impossible` where choices do not go together.
        message: The reason in words, with what was found and what was expected.
        score: The predicted score; infinite where there is none.
        of: Number of the trial that a duplicate repeats; None otherwise.
    """

    reason: Literal["score", "duplicate", "impossible"]
    message: str
    score: float
    of: int | None = None


def screen(
    digest: str, score: float, objectives: Objectives, seen: Mapping[str, int]
) -> Screened | None:
    """Refuses a draw whose predicted score is too high or that was tried before.

    Args:
        digest: `Candidate.digest()` of the draw.
        score: Its predicted score.
        objectives: The sweep's bounds.
        seen: Numbers of the trials there are, running and failed ones too, by their digests.

    Returns:
        Why the draw is refused; None for one to train.
    """
    at_most = objectives.score.at_most
    if score > at_most:
        message = f"predicted score {score:.4g}, expected at most {at_most:.4g}"
        return Screened("score", message, score)
    if digest in seen:
        of = seen[digest]
        return Screened("duplicate", f"the same candidate as trial {of}", score, of)
    return None


def impossible(message: str) -> Screened:
    """Refuses a draw that makes no candidate, because its choices do not go together."""
    return Screened("impossible", f"no candidate: {message}", math.inf)


def describe_end(screened: Sequence[Screened], objectives: Objectives) -> str:
    """Why a study ends after nothing but screened draws, and what to widen in the sweep.

    Args:
        screened: The draws in a row, at least one.
        objectives: The sweep's bounds.
    """
    reasons = Counter(item.reason for item in screened)
    by_score, duplicates = reasons["score"], reasons["duplicate"]
    found = (
        f"{len(screened)} draws in a row were screened, "
        f"{by_score} by predicted score and {duplicates} as duplicates"
    )
    if reasons["impossible"] > by_score + duplicates:
        return f"{found}, the others make no candidate: narrow the ranges that do not go together"
    if duplicates > by_score:
        return f"{found}: the space is exhausted, or nearly so; open more of `candidate` to it"
    lowest = min(item.score for item in screened if item.reason != "duplicate")
    return (
        f"{found}: the lowest predicted score among them is {lowest:.4g}; "
        f"raise objectives.score.at_most ({objectives.score.at_most:.4g}), or widen `candidate` "
        "towards cheaper networks: smaller widths, fewer bits, more stride"
    )
