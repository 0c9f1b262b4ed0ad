"""Describes a sweep's space before anything is trained."""

from __future__ import annotations

import random
from dataclasses import dataclass

from pydantic import ValidationError

from micronet_search import build
from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.options import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems
from micronet_search.data import splits
from micronet_search.score.rules import scores
from micronet_search.search.space import size
from micronet_search.study.opening import check_space, find_known

DRAWS = distributions.DRAWS


@dataclass(frozen=True)
class Sample:
    """What random draws from a space look like.

    Attributes:
        choices: What is searched, by path.
        size: Different draws that there are; None for a continuum.
        scores: Predicted scores of the different candidates drawn, in rising order.
        duplicates: Draws that came out the same as an earlier one.
        screened: Candidates whose score is above the ceiling.
        impossible: Draws that make no candidate.
    """

    choices: tuple[str, ...]
    size: int | None
    scores: tuple[float, ...]
    duplicates: int
    screened: int
    impossible: int


def sample(sweep: Sweep) -> Sample:
    """Draws from a sweep's space, evenly, and predicts the scores.

    Raises:
        ValueError: The dataset cannot be used or does not go with the space, or no draw makes a
            network that can be built.
    """
    images, classes = splits.describe(sweep.dataset)
    check_space(sweep, images, classes)
    find_known(sweep, images, classes)
    space, goal = sweep.space, sweep.objectives.score
    pick = distributions.pick_random(random.Random(sweep.search.seed))
    found: dict[str, float] = {}
    impossible, reason = 0, ""
    for _ in range(DRAWS):
        try:
            candidate = read_candidate(distributions.draw(space, pick).tree, images, classes)
            if candidate.digest() not in found:
                found[candidate.digest()] = scores(build.predict(candidate))[goal.rule].score
        except ValidationError as error:
            impossible += 1
            reason = validation_problems(error, Candidate)[0][1]
        except build.TooLargeError as error:
            impossible += 1
            reason = str(error)
    if not found:
        raise ValueError(f"candidate: none of {DRAWS} draws can be built: {reason}")
    return Sample(
        choices=tuple(distributions.leaves(space)),
        size=size(space),
        scores=tuple(sorted(found.values())),
        duplicates=DRAWS - impossible - len(found),
        screened=sum(score > goal.at_most for score in found.values()),
        impossible=impossible,
    )
