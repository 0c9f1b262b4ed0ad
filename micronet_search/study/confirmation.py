"""What repeats say of a trial's candidate: its accuracy on the test split, and how sure that is."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from micronet_search.config.sweep import Objectives
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Repeat
from micronet_search.study.survey import is_feasible, score_of, survey

NORMAL_95 = 1.959964
"""The standard normal distribution has 95 % within this many deviations."""


@dataclass(frozen=True)
class Confirmation:
    """The repeats of one trial's candidate that have ended.

    Attributes:
        accuracies: On the test split, 0 to 1, by the seed; of the repeats that are complete.
        failed: How many repeats failed.
        images: The number of test images.
        full_train: Whether the repeats were trained on the validation images too.
    """

    accuracies: Mapping[int, float]
    failed: int
    images: int
    full_train: bool

    @property
    def mean(self) -> float:
        """The mean accuracy; 0 where every repeat failed."""
        return statistics.fmean(self.accuracies.values()) if self.accuracies else 0.0

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the seeds; None for fewer than two."""
        values = self.accuracies.values()
        return statistics.stdev(values) if len(values) > 1 else None

    @property
    def error(self) -> float:
        """The standard error of the mean over the seeds; for one seed, that of the images."""
        if self.deviation is None:
            return standard_error(self.mean, self.images)
        return self.deviation / math.sqrt(len(self.accuracies))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the mean for new images.

        The seeds are judged by the same images, so they count as one look at them.
        """
        return wilson(self.mean, self.images)

    @property
    def median_seed(self) -> int:
        """The seed of the median accuracy, the lower one of two, so that it is no lucky one."""
        order = sorted(self.accuracies, key=lambda seed: (self.accuracies[seed], seed))
        return order[(len(order) - 1) // 2]

    def reaches(self, goal: float) -> bool:
        """Returns whether no repeat failed, and the mean less a standard error is at the goal."""
        return bool(self.accuracies) and not self.failed and self.mean - self.error >= goal

    def to_json(self, goal: float) -> dict[str, Any]:
        """Returns the figures as plain values, for the front and for MLflow."""
        low, high = self.interval
        return {
            "confirmed": self.reaches(goal),
            "seeds": len(self.accuracies),
            "test_accuracy": self.mean,
            "test_deviation": self.deviation,
            "test_low": low,
            "test_high": high,
        }


def wilson(share: float, images: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share of so many images, by the method of Wilson (1927)."""
    square = NORMAL_95**2 / images
    centre = (share + square / 2) / (1 + square)
    spread = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
    return centre - spread, centre + spread


def standard_error(share: float, images: int) -> float:
    """Returns the standard error of a share of so many images."""
    return math.sqrt(share * (1.0 - share) / images)


def gathered(repeats: Mapping[Repeat, Outcome], images: int) -> dict[int, Confirmation]:
    """Gathers repeats by trial; those on all training images count alone, where there are any.

    Args:
        repeats: How the repeats of a study ended.
        images: The number of its test images.
    """
    found = {}
    for trial in {repeat.trial for repeat in repeats}:
        mine = {repeat: outcome for repeat, outcome in repeats.items() if repeat.trial == trial}
        full = any(repeat.full_train for repeat in mine)
        chosen = {repeat.seed: one for repeat, one in mine.items() if repeat.full_train == full}
        accuracies = {
            seed: one.test_accuracy
            for seed, one in sorted(chosen.items())
            if one.test_accuracy is not None
        }
        found[trial] = Confirmation(accuracies, len(chosen) - len(accuracies), images, full)
    return found


def contenders(outcomes: Mapping[int, Outcome], objectives: Objectives, images: int) -> list[int]:
    """Returns the trials on the front and those that chance may have kept off it, cheapest first.

    Those are complete and would be on the front if their accuracy were one standard error better.

    Args:
        outcomes: How the trials of a study ended.
        objectives: The study's.
        images: The number of its validation images.
    """
    front = survey(outcomes, objectives).front
    points = [(outcomes[n].accuracy or 0.0, score_of(outcomes[n], objectives)) for n in front]
    found = set(front)
    for number, outcome in outcomes.items():
        if outcome.state != "complete" or outcome.accuracy is None:
            continue
        score = score_of(outcome, objectives)
        raised = min(1.0, outcome.accuracy + standard_error(outcome.accuracy, images))
        if not is_feasible(replace(outcome, accuracy=raised), objectives):
            continue
        if not any(best >= raised and cost <= score for best, cost in points):
            found.add(number)
    return sorted(found, key=lambda number: (score_of(outcomes[number], objectives), number))
