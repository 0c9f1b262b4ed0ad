"""Draws a candidate's tree with Optuna, and finds the choices that draw a known one.

In Optuna a choice is its dotted path: `network.growth_rate`, `network.one_of` for the branch of a
`one_of` and `network.NAME.growth_rate` for what that branch holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Choices, Distribution, OneOf, Range, join
from micronet_search.config.loading import Key, describe, dotted
from micronet_search.config.options import FROM_THE_DATASET
from micronet_search.search.encoding import (
    Parameter,
    Parameters,
    decode,
    encode,
    on_grid,
    pick_stored,
)

if TYPE_CHECKING:
    import optuna


MAX_EXPLAINED = 3
"""Differences that an error names. The rest are counted."""


class OutsideSpaceError(ValueError):
    """A candidate that no draw of the space gives; the message names what differs."""


def suggest(trial: optuna.trial.BaseTrial, space: Any) -> dict[str, Any]:
    """Draws a candidate's plain tree by asking `trial` for every choice of `Sweep.space`."""
    asked = distributions.draw(space, lambda path, found: decode(found, _ask(trial, path, found)))
    tree: dict[str, Any] = asked.tree
    return tree


def _ask(trial: optuna.trial.BaseTrial, path: str, distribution: Distribution) -> Parameter:
    if not isinstance(distribution, Range):
        options = [encode(distribution, option) for option in distribution.options()]
        return trial.suggest_categorical(path, options)
    low, high = (on_grid(distribution, end) for end in (distribution.low, distribution.high))
    step, log = distribution.step, distribution.log
    if distribution.whole:
        return trial.suggest_int(path, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(path, low, high, step=step, log=log)


def size(space: Any) -> int | None:
    """Returns how many different draws a space has, before any rounding; None for a continuum."""
    match space:
        case Range():
            return space.count()
        case Choices(values):
            return len(values)
        case OneOf(branches):
            sizes = [size(branch) for branch in branches.values()]
            return None if None in sizes else sum(filter(None, sizes))
        case dict():
            sizes = [size(value) for value in space.values()]
            return None if None in sizes else math.prod(filter(None, sizes))
    return 1


def find_choices(space: Any, candidate: dict[str, Any], part: str | None = None) -> Parameters:
    """Finds the Optuna parameters that draw a known candidate, for `Study.enqueue_trial`.

    Starts from the choices that look like the candidate's values, and changes one at a time while
    the draw comes closer. If no single change helps, two at a time are made: a width may be the
    product of two choices, and a candidate may write a value in another way than its sweep.

    Args:
        space: A tree of distributions, `Sweep.space`.
        candidate: `Candidate.model_dump(mode="json")`. Its `input` and `classes`, which a space
            does not have, are taken as they are.
        part: The one field, such as `network`, in which the draw must equal the candidate. In
            others what the space leaves open is as close as possible. None for all fields.

    Raises:
        OutsideSpaceError: No draw is the candidate; the message names the keys that differ from
            the closest one, what was found and what was expected.
    """
    search = _Search(space, candidate)
    best = search.draw({})
    for ahead in (False, True):
        best = search.closest(best, ahead)
        wrong = [item for item in best.differences if part in (None, item.key[0])]
        if not wrong:
            return best.params
    raise OutsideSpaceError(search.explain(best, wrong))


def _guess(node: Any, value: Any, given: Parameters, path: str = "") -> tuple[Parameters, int]:
    """Returns the given choices with others that look like `value`, and how many values differ."""
    match node:
        case OneOf(branches):
            here = join(path, "one_of")
            names = [str(given[here])] if here in given else list(branches)
            guesses = {n: _guess(branches[n], value, given, join(path, n)) for n in names}
            name = min(guesses, key=lambda name: guesses[name][1])
            params, differing = guesses[name]
            return {here: name} | params, differing
        case Range() | Choices():
            similar = given[path] if path in given else encode(node, _similar(node, value))
            return {path: similar}, int(decode(node, similar) != value)
        case dict():
            known = value if isinstance(value, dict) else {}
            params, differing = Parameters(), 0
            for name, part in node.items():
                found, distance = _guess(part, known.get(name), given, join(path, name))
                params, differing = params | found, differing + distance
            return params, differing
    return {}, 0 if node == value else max(_values(node), _values(value))


def _similar(distribution: Range | Choices, value: Any) -> Any:
    """Returns the option that equals a value, or else the next lower one, or the first one."""
    if isinstance(distribution, Range):
        return distribution.nearest(value)  # widths are rounded up to their groups
    options = distribution.values
    return options[options.index(value)] if value in options else options[0]


class _Difference(NamedTuple):
    """Where a candidate and a draw differ."""

    key: Key
    found: Any
    expected: Any


class _Drawn(NamedTuple):
    """What some choices draw."""

    params: Parameters
    picks: Mapping[str, Key]
    differences: list[_Difference]

    @property
    def distance(self) -> int:
        """How many values differ. A missing mapping counts with all of its own."""
        return sum(max(_values(item.found), _values(item.expected)) for item in self.differences)

    def apart_from(self, key: Key) -> list[_Difference]:
        """Returns the differences that are not at a key or below it."""
        return [item for item in self.differences if item.key[: len(key)] != key]


class _Search:
    """Searches for the choices that draw a candidate."""

    def __init__(self, space: Any, candidate: dict[str, Any]) -> None:
        self._space, self._candidate = space, candidate
        self._leaves = distributions.leaves(space)

    def draw(self, given: Parameters) -> _Drawn:
        """Makes the given choices and similar ones, and compares the draw with the candidate."""
        params, _ = _guess(self._space, self._candidate, given)
        drawn = distributions.draw(self._space, pick_stored(params))
        images = {name: self._candidate[name] for name in FROM_THE_DATASET}
        tree = images | drawn.tree
        with suppress(ValidationError):  # the choices do not go together: compared as drawn
            tree = Candidate.model_validate(tree).model_dump(mode="json")
        return _Drawn(params, drawn.picks, list(_compare((), self._candidate, tree)))

    def closest(self, best: _Drawn, ahead: bool) -> _Drawn:
        """Changes one choice after the other while the draw comes closer to the candidate.

        With `ahead` a change that does not help by itself is followed by others that may.
        """
        before = math.inf
        while best.differences and best.distance < before:
            before = best.distance
            for path in best.params:
                for option in self._others(best, path):
                    changed = self.draw(best.params | {path: option})
                    if ahead and _matters_elsewhere(best, changed, path):
                        changed = self.closest(changed, ahead=False)
                    best = changed if changed.distance < best.distance else best
        return best

    def _others(self, drawn: _Drawn, path: str) -> list[Parameter]:
        """Returns the options of a choice that are not taken, where they can matter."""
        differing = {item.key[0] for item in drawn.differences}
        if path not in drawn.params or not differing.issuperset(drawn.picks[path][:1]):
            return []  # the parts of a candidate are drawn and rounded each by itself
        found = self._leaves[path][0]
        options = [encode(found, option) for option in found.options()]
        return [option for option in options if option != drawn.params[path]]

    def explain(self, drawn: _Drawn, wrong: list[_Difference]) -> str:
        """Returns in words where a draw must not differ, and what the space allows there."""
        at = {key: self._leaves[path][0] for path, key in drawn.picks.items()}
        lines = [_line(item, at.get(item.key)) for item in wrong]
        more = [f"and {len(lines) - MAX_EXPLAINED} more"] if len(lines) > MAX_EXPLAINED else []
        return "; ".join(lines[:MAX_EXPLAINED] + more)


def _matters_elsewhere(before: _Drawn, after: _Drawn, path: str) -> bool:
    """Whether a changed choice did anything but change its own value."""
    key = before.picks[path]
    unchanged = before.differences == after.differences
    return unchanged or before.apart_from(key) != after.apart_from(key)


def _compare(key: Key, found: Any, expected: Any) -> Iterator[_Difference]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in found | expected:
            yield from _compare((*key, name), found.get(name), expected.get(name))
    elif found != expected:
        yield _Difference(key, found, expected)


def _values(tree: Any) -> int:
    return sum(map(_values, tree.values())) if isinstance(tree, dict) else 1


def _line(difference: _Difference, space: Distribution | None) -> str:
    """Returns what a candidate has, and what the space allows there, or else what is drawn."""
    expected = describe(difference.expected)
    match space:
        case Range(low, high, step) if low != high:
            grid = f" in steps of {step}" if step else ""
            expected = f"{low} to {on_grid(space, high)}{grid}"
        case Choices(values) if len(values) > 1:
            expected = f"one of {describe(list(values))}"
    return f"{dotted(difference.key)}: found {describe(difference.found)}, expected {expected}"
