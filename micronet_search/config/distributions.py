"""What a sweep may put in the place of a value: `low`/`high`, `choices`, `one_of`.

A sweep's `candidate:` tree is read into a tree of these and plain values, and `draw` makes a
candidate's tree from it by asking `pick` for every choice. Validation, Optuna, a random sample and
the search for a known candidate's choices are four ways to pick.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from micronet_search.config.loading import Key, describe


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
        """The ends, which are what has to be valid."""
        return [self.low, self.high] if self.low != self.high else [self.low]

    def count(self) -> int | None:
        """How many values it has; None for a continuum."""
        step = self.step or (1 if self.whole else None)
        return None if step is None else round((self.high - self.low) / step) + 1

    def sample(self, rng: random.Random) -> float:
        """A value drawn evenly, `log` left aside."""
        count = self.count()
        if count is None:
            return rng.uniform(self.low, self.high)
        return self.low + rng.randrange(count) * (self.step or 1)

    def nearest(self, value: Any) -> Any:
        """The greatest value of the range that is not above `value`, or its `low`."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return self.low
        value = min(max(value, self.low), self.high)
        step = self.step or (1 if self.whole else None)
        if step is None:
            return value
        return self.low + int((value - self.low) / step + 1e-9) * step


@dataclass(frozen=True)
class Choices:
    """One of some values, each a scalar, a list or a mapping."""

    values: tuple[Any, ...]

    def options(self) -> list[Any]:
        """All of the values."""
        return list(self.values)

    def count(self) -> int:
        """How many values there are."""
        return len(self.values)

    def sample(self, rng: random.Random) -> Any:
        """A value drawn evenly."""
        return rng.choice(self.values)


@dataclass(frozen=True)
class OneOf:
    """One of some named subtrees."""

    branches: Mapping[str, Any]

    def options(self) -> list[Any]:
        """The names of the branches."""
        return list(self.branches)

    def sample(self, rng: random.Random) -> str:
        """A branch's name drawn evenly."""
        return rng.choice(list(self.branches))


Distribution = Range | Choices | OneOf
Pick = Callable[[str, Distribution], Any]
"""Chooses: from the dotted path of a choice and its distribution to a value or a branch's name."""


class DistributionError(ValueError):
    """A distribution that cannot be: the key where it stands, and what is wrong."""

    def __init__(self, key: Key, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(message)


def parse(tree: Any, key: Key = ()) -> Any:
    """Reads a `candidate:` tree: mappings, distributions and plain values.

    Raises:
        DistributionError: A range is empty, a choice is missing, keys are mixed.
    """
    if not isinstance(tree, dict):
        return tree
    if "one_of" in tree:
        return _one_of(tree, key)
    if "choices" in tree:
        return _choices(tree, key)
    if tree.keys() & {"low", "high"}:
        return _range(tree, key)
    return {name: parse(value, (*key, name)) for name, value in tree.items()}


def _refuse_others(tree: dict[str, Any], allowed: set[str], key: Key) -> None:
    for name in tree:
        if name not in allowed:
            expected = ", ".join(sorted(allowed))
            raise DistributionError((*key, name), f"unknown key, expected one of {expected}")


def _one_of(tree: dict[str, Any], key: Key) -> OneOf:
    _refuse_others(tree, {"one_of"}, key)
    branches = tree["one_of"]
    here = (*key, "one_of")
    if not isinstance(branches, dict) or not branches:
        message = f"found {describe(branches)}, expected a mapping from names to subtrees"
        raise DistributionError(here, message)
    for name in branches:
        if "." in name or name == "one_of":
            raise DistributionError((*here, name), "a branch's name cannot be that")
    return OneOf({name: parse(branch, (*here, name)) for name, branch in branches.items()})


def _choices(tree: dict[str, Any], key: Key) -> Choices:
    _refuse_others(tree, {"choices"}, key)
    values = tree["choices"]
    if not isinstance(values, list) or not values:
        message = f"found {describe(values)}, expected a list with at least one value"
        raise DistributionError((*key, "choices"), message)
    for i, value in enumerate(values):
        if value in values[:i] and type(value) is type(values[values.index(value)]):
            raise DistributionError((*key, "choices", i), f"{describe(value)} is there twice")
    return Choices(tuple(values))


def _range(tree: dict[str, Any], key: Key) -> Range:
    _refuse_others(tree, {"low", "high", "step", "log"}, key)
    for name in ("low", "high"):
        if name not in tree:
            raise DistributionError(key, f"{name} is missing from the range")
    for name in ("low", "high", "step"):
        value = tree.get(name, 1)
        if isinstance(value, bool) or not isinstance(value, int | float) or value - value != 0:
            message = f"found {describe(value)}, expected a number"
            raise DistributionError((*key, name), message)
    low, high, step, log = tree["low"], tree["high"], tree.get("step"), tree.get("log", False)
    if not isinstance(log, bool):
        message = f"found {describe(log)}, expected true or false"
        raise DistributionError((*key, "log"), message)
    if low > high:
        raise DistributionError(key, f"found low {low} above high {high}, expected low <= high")
    if step is not None and step <= 0:
        raise DistributionError((*key, "step"), f"found {step}, expected a step above 0")
    if log and (low <= 0 or step is not None):
        expected = "low above 0" if low <= 0 else "no step beside log"
        raise DistributionError(key, f"found log: true, expected {expected}")
    whole = all(isinstance(value, int) for value in (low, high, step or 1))
    if step is not None:
        high = low + int((high - low) / step + 1e-9) * step
    return Range(low, high, step, log, whole)


def unparse(tree: Any) -> Any:
    """The plain tree that `parse` reads as `tree`."""
    match tree:
        case Range(low, high, step, log):
            given = {"low": low, "high": high, "step": step, "log": log}
            return {
                name: value for name, value in given.items() if value or name in ("low", "high")
            }
        case Choices(values):
            return {"choices": list(values)}
        case OneOf(branches):
            return {"one_of": {name: unparse(branch) for name, branch in branches.items()}}
        case dict():
            return {name: unparse(value) for name, value in tree.items()}
    return tree


@dataclass(frozen=True)
class Draw:
    """A candidate's plain tree, and where its values come from.

    Attributes:
        tree: The tree, every leaf a value.
        origin: For each value that was picked, from its key in `tree` to its key in the sweep.
    """

    tree: Any
    origin: Mapping[Key, Key]

    def source(self, key: Key) -> Key:
        """The key in the sweep's `candidate:` of what stands at `key` in the drawn tree."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.origin:
                return self.origin[key[:end]] + key[end:]
        return key


def draw(tree: Any, pick: Pick) -> Draw:
    """Makes a candidate's tree, asking `pick` for every choice on the way."""
    origin: dict[Key, Key] = {}

    def visit(node: Any, path: str, key: Key, source: Key) -> Any:
        match node:
            case OneOf(branches):
                name = pick(_join(path, "one_of"), node)
                origin[key] = (*source, "one_of", name)
                return visit(branches[name], _join(path, name), key, origin[key])
            case Choices(values):
                value = pick(path, node)
                origin[key] = (*source, "choices", values.index(value))
                return value
            case Range():
                origin[key] = source
                return pick(path, node)
            case dict():
                return {
                    name: visit(value, _join(path, name), (*key, name), (*source, name))
                    for name, value in node.items()
                }
        return node

    return Draw(visit(tree, "", (), ()), origin)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def leaves(tree: Any) -> dict[str, tuple[Distribution, dict[str, str]]]:
    """Every choice of a tree: from its path to its distribution and the branches that lead to it."""
    found: dict[str, tuple[Distribution, dict[str, str]]] = {}

    def visit(node: Any, path: str, branches: dict[str, str]) -> None:
        match node:
            case OneOf(subtrees):
                here = _join(path, "one_of")
                found[here] = (node, branches)
                for name, subtree in subtrees.items():
                    visit(subtree, _join(path, name), {**branches, here: name})
            case Range() | Choices():
                found[path] = (node, branches)
            case dict():
                for name, value in node.items():
                    visit(value, _join(path, name), branches)

    visit(tree, "", {})
    return found


def pick_from(values: Mapping[str, Any]) -> Pick:
    """Picks the given values, and the first option everywhere else."""
    return lambda path, found: values[path] if path in values else found.options()[0]


def pick_random(rng: random.Random) -> Pick:
    """Picks evenly at random."""
    return lambda _, found: found.sample(rng)


def covering(tree: Any) -> Iterator[dict[str, Any]]:
    """Choices to make such that every option, and every pair of options, is taken once.

    A pair covers what one field says of another; an option of a range is one of its two ends.
    """
    found = leaves(tree)
    yield {}
    for path, (distribution, branches) in found.items():
        yield from ({**branches, path: option} for option in distribution.options())
    paths = list(found)
    for i, first in enumerate(paths):
        for second in paths[i + 1 :]:
            (one, ones), (other, others) = found[first], found[second]
            for a in one.options():
                for b in other.options():
                    picked = {**ones, **others, first: a, second: b}
                    wanted = {**ones, first: a}
                    if all(picked[path] == value for path, value in wanted.items()):
                        yield picked
