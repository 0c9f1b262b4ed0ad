"""The three distributions: a range of numbers, a choice of values, one of some subtrees."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SHORT = 32
"""The most values of a range that are all tried. Fields such as bits have gaps in their range."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
        low: The least value.
        high: The greatest value; brought down to the grid of `step`.
        step: Distance of neighbouring values; None for 1 between whole numbers, none otherwise.
        log: Whether a draw is even in the logarithm.
        whole: Whether the values are whole numbers.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = True

    def options(self) -> list[Any]:
        """Returns the ends, and the values between them if they are few."""
        ends = [self.low, self.high] if self.low != self.high else [self.low]
        count, step = self.count(), self.step or 1
        if count is None or count > SHORT:
            return ends
        return ends + [self.low + i * step for i in range(1, count - 1)]

    def count(self) -> int | None:
        """Returns how many values there are; None for a continuum."""
        if self.step is None and not self.whole:
            return None
        return steps(self.low, self.high, self.step or 1) + 1

    def sample(self, rng: random.Random) -> float:
        """Draws a value evenly. `log` is ignored."""
        count = self.count()
        if count is None:
            return rng.uniform(self.low, self.high)
        return self.low + rng.randrange(count) * (self.step or 1)

    def nearest(self, value: Any) -> Any:
        """Returns the greatest value of the range that is not above `value`, or its `low`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.low
        value = min(max(value, self.low), self.high)
        if self.count() is None:
            return value
        step = self.step or 1
        return self.low + steps(self.low, value, step) * step


def steps(low: float, high: float, step: float) -> int:
    """Returns how many whole steps fit between `low` and `high`, rounding errors forgiven."""
    if all(isinstance(value, int) for value in (low, high, step)):
        return int((high - low) // step)
    return int((high - low) / step + 1e-9)


@dataclass(frozen=True)
class Choices:
    """One of some values, each a scalar, a list or a mapping."""

    values: tuple[Any, ...]

    def options(self) -> list[Any]:
        """Returns all of the values."""
        return list(self.values)

    def count(self) -> int:
        """Returns how many values there are."""
        return len(self.values)

    def sample(self, rng: random.Random) -> Any:
        """Draws a value evenly."""
        return rng.choice(self.values)

    def index(self, value: Any) -> int:
        """Returns the place of a value. Unlike in a list, 1 is neither true nor 1.0."""
        for i, other in enumerate(self.values):
            if other is value:  # as it is wherever a value is picked, and a hundred times quicker
                return i
        texts = [json.dumps(other, sort_keys=True) for other in self.values]
        return texts.index(json.dumps(value, sort_keys=True))


@dataclass(frozen=True)
class OneOf:
    """One of some named subtrees."""

    branches: Mapping[str, Any]

    def options(self) -> list[Any]:
        """Returns the names of the branches."""
        return list(self.branches)

    def sample(self, rng: random.Random) -> str:
        """Draws the name of a branch evenly."""
        return rng.choice(list(self.branches))


Distribution = Range | Choices | OneOf
