"""Describes a sweep's space before anything is trained."""

import random
import statistics

from pydantic import ValidationError

from micronet_search import build
from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import DRAWS
from micronet_search.config.options import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems
from micronet_search.data import splits
from micronet_search.scoring.rules import scores
from micronet_search.search.space import size
from micronet_search.study.opening import check_space, find_known


def describe(sweep: Sweep) -> list[str]:
    """Draws from a sweep's space, evenly, and says what the candidates and their scores are like.

    It is a ValueError if the dataset does not go with the space, or no draw can be built.
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
    ordered, choices, draws = sorted(found.values()), distributions.leaves(space), size(space)
    median = statistics.median(ordered)
    if not choices:
        return [f"space: one candidate, with a predicted {goal.rule} score of {median:.6f}"]
    screened = sum(score > goal.at_most for score in ordered)
    duplicates = DRAWS - impossible - len(found)
    return [
        f"space: {'a continuum' if draws is None else f'{draws:,} draws'}, "
        f"from {len(choices)} choices: {', '.join(choices)}",
        f"predicted {goal.rule} score over {len(found)} candidates: "
        f"{ordered[0]:.6f} to {ordered[-1]:.6f}, median {median:.6f}",
        f"of {DRAWS} draws {screened} would be screened with a score above {goal.at_most:g}"
        f", {duplicates} as duplicates and {impossible} as impossible",
    ]
