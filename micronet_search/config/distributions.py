"""The distributions of a sweep, and how candidates are drawn from a tree of them.

`draw` asks a `pick` function for every choice. Validation, Optuna, a random sample and the search
for a known candidate's choices are four ways to pick.
"""

import json
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from micronet_search.config.loading import Key

DRAWS = 100
"""Random draws that are tried in the place of all the draws of a space."""

SHORT = 32
"""The most values of a range that are all tried. Fields such as bits have gaps in their range."""


@dataclass(frozen=True)
class Range:
    """Whole numbers or fractions from `low` to `high`, both included and on the grid of `step`.

    Without a step whole numbers are 1 apart, and fractions a continuum. With `log` draws are even
    in the logarithm.
    """

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = True

    def options(self) -> list[Any]:
        """Returns the ends, and the values between them if they are few."""
        ends = [self.low, self.high] if self.low != self.high else [self.low]
        count = self.count()
        if count is None or count > SHORT:
            return ends
        return ends + [self.low + i * (self.step or 1) for i in range(1, count - 1)]

    def count(self) -> int | None:
        """Returns how many values there are; None for a continuum."""
        if self.step is None and not self.whole:
            return None
        return steps(self.low, self.high, self.step or 1) + 1

    def sample(self, rng: random.Random) -> float:
        """Draws a value evenly, with `log` evenly in its logarithm."""
        if self.log:
            end = self.high + 1 if self.whole else self.high  # each whole number is as wide as 1
            value = math.exp(rng.uniform(math.log(self.low), math.log(end)))
            return min(math.floor(value), self.high) if self.whole else value
        if (count := self.count()) is None:
            return rng.uniform(self.low, self.high)
        return self.low + rng.randrange(count) * (self.step or 1)

    def near(self, value: float, rng: random.Random) -> float:
        """Draws another value within a tenth of the range, or the next one of few."""
        if self.low == self.high:
            return value
        if (count := self.count()) is not None:
            place = steps(self.low, value, self.step or 1)
            away = rng.choice((-1, 1)) * rng.randint(1, max(1, count // 10))
            other = place + away if 0 <= place + away < count else place - away
            return self.low + min(max(other, 0), count - 1) * (self.step or 1)
        turn = math.log if self.log else float
        low, high = turn(self.low), turn(self.high)
        moved = min(max(turn(value) + rng.uniform(-0.1, 0.1) * (high - low), low), high)
        return math.exp(moved) if self.log else moved

    def nearest(self, value: Any) -> Any:
        """Returns the greatest value of the range that is not above `value`, or its `low`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.low
        value, step = min(max(value, self.low), self.high), self.step or 1
        return value if self.count() is None else self.low + steps(self.low, value, step) * step


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

    def sample(self, rng: random.Random) -> Any:
        """Draws a value evenly."""
        return rng.choice(self.values)

    def near(self, value: Any, rng: random.Random) -> Any:
        """Draws another value evenly."""
        place = self.index(value)
        others = [other for i, other in enumerate(self.values) if i != place]
        return rng.choice(others) if others else value

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

    def near(self, value: str, rng: random.Random) -> str:
        """Draws the name of another branch evenly."""
        return rng.choice([name for name in self.branches if name != value] or [value])


Distribution = Range | Choices | OneOf

Pick = Callable[[str, Distribution], Any]
"""Returns a value or the name of a branch for the dotted path of a choice and its distribution."""


@dataclass(frozen=True)
class Draw:
    """A candidate's plain tree, and where its values come from.

    Attributes:
        tree: The tree, every leaf a value.
        choices: The values and the branches that were picked, by the paths of the choices.
        picks: Their keys in `tree`, by the paths of the choices.
        origin: Their keys in the sweep, by their keys in `tree`.
    """

    tree: Any
    choices: Mapping[str, Any]
    picks: Mapping[str, Key]
    origin: Mapping[Key, Key]

    def source(self, key: Key) -> Key:
        """Returns the key in the sweep's `candidate:` of what is at `key` in the drawn tree."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.origin:
                return self.origin[key[:end]] + key[end:]
        return key


def draw(tree: Any, pick: Pick) -> Draw:
    """Makes a candidate's tree, asking `pick` for every choice on the way."""
    choices: dict[str, Any] = {}
    picks: dict[str, Key] = {}
    origin: dict[Key, Key] = {}

    def chosen(path: str, node: Distribution, key: Key, source: Key) -> Any:
        choices[path], picks[path], origin[key] = pick(path, node), key, source
        return choices[path]

    def visit(node: Any, path: str, key: Key, source: Key) -> Any:
        match node:
            case OneOf(branches):
                name = chosen(join(path, "one_of"), node, key, source)
                origin[key] = (*source, "one_of", name)
                return visit(branches[name], join(path, name), key, origin[key])
            case Choices():
                value = chosen(path, node, key, source)
                origin[key] = (*source, "choices", node.index(value))
                return value
            case Range():
                return chosen(path, node, key, source)
            case dict():
                return {
                    name: visit(value, join(path, name), (*key, name), (*source, name))
                    for name, value in node.items()
                }
        return node

    return Draw(visit(tree, "", (), ()), choices, picks, origin)


def join(path: str, name: str) -> str:
    """Returns the dotted path of a name below a path."""
    return f"{path}.{name}" if path else name


def leaves(tree: Any) -> dict[str, tuple[Distribution, dict[str, str]]]:
    """Returns every choice of a tree: its distribution and the branches on its way, by its path."""
    found: dict[str, tuple[Distribution, dict[str, str]]] = {}

    def visit(node: Any, path: str, branches: dict[str, str]) -> None:
        match node:
            case OneOf(subtrees):
                here = join(path, "one_of")
                found[here] = (node, branches)
                for name, subtree in subtrees.items():
                    visit(subtree, join(path, name), {**branches, here: name})
            case Range() | Choices():
                found[path] = (node, branches)
            case dict():
                for name, value in node.items():
                    visit(value, join(path, name), branches)

    visit(tree, "", {})
    return found


def _pick_first(path: str, found: Distribution) -> Any:
    return found.options()[0]


def pick_from(values: Mapping[str, Any], otherwise: Pick = _pick_first) -> Pick:
    """Picks the given values, and the first option, or what `otherwise` picks, everywhere else."""
    return lambda path, found: values[path] if path in values else otherwise(path, found)


def pick_random(rng: random.Random) -> Pick:
    """Picks evenly at random."""
    return lambda _, found: found.sample(rng)


def singles(tree: Any) -> Iterator[dict[str, Any]]:
    """Yields every option of every choice once, as the last one after the branches on its way."""
    yield {}
    for path, (distribution, branches) in leaves(tree).items():
        for option in distribution.options():
            yield {**branches, path: option}
