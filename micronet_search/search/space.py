"""A sweep's space and Optuna: drawing a candidate's tree, and finding the choices that draw one.

In Optuna a choice is its dotted path: `network.growth_rate`, `network.one_of` for the branch of a
`one_of` and `network.NAME.growth_rate` for what that branch holds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.distributions import Choices, Distribution, OneOf, Range
from micronet_search.config.files import read_candidate
from micronet_search.config.loading import Key, describe, dotted
from micronet_search.config.network import Input
from micronet_search.search.encoding import Parameter, Parameters, decode, encode, on_grid

if TYPE_CHECKING:
    import optuna


class OutsideSpaceError(ValueError):
    """A candidate that no draw of the space gives; the message names what differs."""


def suggest(trial: optuna.trial.BaseTrial, space: Any) -> dict[str, Any]:
    """Draws a candidate's tree by asking `trial` for every choice on the way.

    Args:
        trial: An Optuna trial, or a `FixedTrial` with the parameters to take.
        space: A tree of distributions, `Sweep.space`.

    Returns:
        The plain tree, as `config.files.read_candidate` takes it.
    """

    def pick(path: str, distribution: Distribution) -> Any:
        return decode(distribution, _ask(trial, path, distribution))

    drawn: dict[str, Any] = distributions.draw(space, pick).tree
    return drawn


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
    """How many different draws a space has; None for a continuum.

    Draws that rounding to the groups makes the same candidate count apart.
    """
    match space:
        case Range() | Choices():
            return space.count()
        case OneOf(branches):
            sizes = [size(branch) for branch in branches.values()]
            return None if None in sizes else sum(filter(None, sizes))
        case dict():
            sizes = [size(value) for value in space.values()]
            return None if None in sizes else math.prod(filter(None, sizes))
    return 1


def find_choices(space: Any, candidate: dict[str, Any]) -> Parameters:
    """The Optuna parameters that draw a known candidate, for `Study.enqueue_trial`.

    A range takes the greatest value that is not above the candidate's, because widths are rounded
    up to their groups, and a choice the equal value, or else its first. From there one choice after
    the other, a branch with all that it holds, is made as it brings the draw closest: where the
    candidate writes a value another way (`groups`, a mapping's defaults), that tells. Where no
    single change helps, every change is followed by those that then do: a width is a product.

    Args:
        space: A tree of distributions, `Sweep.space`.
        candidate: `Candidate.model_dump(mode="json")`. Its `input` and `classes`, which a space
            does not have, are taken as they are.

    Returns:
        A value for every choice on the way to the candidate, by its dotted path.

    Raises:
        OutsideSpaceError: No draw is the candidate; the message names the keys that differ from
            the closest one, what was found and what was expected.
    """
    search = _Search(space, candidate)
    best = search.draw(_guess(space, candidate))
    for ahead in (0, 1):
        best = search.descend(best, ahead=ahead)
        if not best.differences:
            return best.params
    raise OutsideSpaceError(_explain(space, best.params, best.differences))


def _guess(node: Any, value: Any, path: str = "") -> Parameters:
    """The choices that look like the candidate's `value`, in the first branches."""
    prefix = f"{path}." if path else ""
    match node:
        case OneOf(branches):
            name, branch = next(iter(branches.items()))
            return {f"{prefix}one_of": name, **_guess(branch, value, f"{prefix}{name}")}
        case Range():
            return {path: encode(node, node.nearest(value))}
        case Choices(values):
            equal = (option for option in values if option == value)  # 1 where the value is 1.0
            return {path: encode(node, next(equal, values[0]))}
        case dict():
            known = value if isinstance(value, dict) else {}
            parts = [_guess(part, known.get(name), prefix + name) for name, part in node.items()]
            return {path: param for params in parts for path, param in params.items()}
    return {}


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
    def weight(self) -> int:
        """How many values differ; a mapping that is missing counts with all of its own."""
        return sum(max(_values(item.found), _values(item.expected)) for item in self.differences)

    def beyond(self, key: Key) -> list[_Difference]:
        """The differences that are not at `key`."""
        return [item for item in self.differences if item.key[: len(key)] != key]


class _Search:
    """The search for the choices that draw a candidate."""

    def __init__(self, space: Any, candidate: dict[str, Any]) -> None:
        self._space = space
        self._candidate = candidate
        self._leaves = distributions.leaves(space)

    def draw(self, params: Parameters) -> _Drawn:
        """What `params` draw, and where it differs from the candidate, in the candidate's order."""
        drawn = distributions.draw(self._space, lambda path, found: decode(found, params[path]))
        tree, candidate = drawn.tree, self._candidate
        try:
            image = Input.model_validate(candidate["input"])
            tree = read_candidate(tree, image, candidate["classes"]).model_dump(mode="json")
        except ValidationError:  # Too many strides for these images: compared as drawn.
            tree = {name: candidate[name] for name in ("input", "classes")} | tree
        return _Drawn(params, drawn.picks, list(_compare((), candidate, tree)))

    def descend(self, best: _Drawn, inside: str = "", ahead: int = 0) -> _Drawn:
        """Changes one choice after the other while the draw comes closer to the candidate.

        Args:
            best: Where to begin.
            inside: The branch whose choices are changed; empty for all.
            ahead: How many changes may stand before the one that brings the draw closer.
        """
        before = math.inf
        while 0 < best.weight < before:
            before = best.weight
            for path in [path for path in best.params if not inside or _is_within(path, inside)]:
                for option in self._others(best, path):
                    drawn = self._changed(best, path, option, inside, ahead)
                    best = drawn if drawn.weight < best.weight else best
                    if not best.differences:
                        return best
        return best

    def _others(self, drawn: _Drawn, path: str) -> list[Any]:
        """The options of a choice that are not taken, where they can matter."""
        differing = {item.key[0] for item in drawn.differences}
        if path not in drawn.params or not differing.issuperset(drawn.picks[path][:1]):
            return []  # the parts of a candidate are drawn and rounded each by itself
        found = self._leaves[path][0]
        options = [*found.options(), *(found.between() if isinstance(found, Range) else [])]
        return [option for option in options if encode(found, option) != drawn.params[path]]

    def _changed(self, drawn: _Drawn, path: str, option: Any, inside: str, ahead: int) -> _Drawn:
        """The draw with one choice changed, and with what that asks for."""
        found, key = self._leaves[path][0], drawn.picks[path]
        if isinstance(found, OneOf):
            here = path.removesuffix("one_of")
            left, branch = f"{here}{drawn.params[path]}", f"{here}{option}"
            kept = {name: it for name, it in drawn.params.items() if not _is_within(name, left)}
            value = functools.reduce(_child, key, self._candidate)
            guess = _guess(found.branches[option], value, branch)
            return self.descend(self.draw(kept | {path: option} | guess), branch, ahead)
        changed = self.draw(drawn.params | {path: encode(found, option)})
        alone = (
            changed.beyond(key) == drawn.beyond(key) and changed.differences != drawn.differences
        )
        # What changed its own value alone hangs together with no other choice.
        return changed if alone or not ahead else self.descend(changed, inside, ahead - 1)


def _is_within(path: str, branch: str) -> bool:
    return path == branch or path.startswith(f"{branch}.")


def _child(tree: Any, name: str | int) -> Any:
    return tree.get(name) if isinstance(tree, dict) else None


def _compare(key: Key, found: Any, expected: Any) -> Iterator[_Difference]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in found | expected:
            yield from _compare((*key, name), found.get(name), expected.get(name))
    elif found != expected:
        yield _Difference(key, found, expected)


def _values(tree: Any) -> int:
    return sum(map(_values, tree.values())) if isinstance(tree, dict) else 1


MAX_EXPLAINED = 3
"""Differences that an error names; the rest are counted."""


def _explain(space: Any, params: Parameters, differences: list[_Difference]) -> str:
    lines = []
    for item in differences[:MAX_EXPLAINED]:
        found, expected = describe(item.found), _expected(space, params, item)
        lines.append(f"{dotted(item.key)}: found {found}, expected {expected}")
    if len(differences) > MAX_EXPLAINED:
        lines.append(f"and {len(differences) - MAX_EXPLAINED} more")
    return "; ".join(lines)


def _expected(space: Any, params: Parameters, difference: _Difference) -> str:
    """What the space allows where a candidate differs, or else what is drawn there."""
    match _node_at(space, difference.key, params):
        case Range(low, high, step) as found if low != high:
            grid = f" in steps of {step}" if step else ""
            return f"{low} to {on_grid(found, high)}{grid}"
        case Choices(values) if len(values) > 1:
            return f"one of {describe(list(values))}"
    return describe(difference.expected)


def _node_at(node: Any, key: Key, params: Parameters, path: str = "") -> Any:
    """What the space has at a candidate's key, along the branches picked; None below a choice."""
    prefix = f"{path}." if path else ""
    if isinstance(node, OneOf):
        name = str(params[f"{prefix}one_of"])
        return _node_at(node.branches[name], key, params, f"{prefix}{name}")
    if not key:
        return node
    if isinstance(node, dict):
        return _node_at(node.get(key[0]), key[1:], params, f"{prefix}{key[0]}")
    return None
