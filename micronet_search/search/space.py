"""A sweep's space and Optuna: drawing a candidate's tree, and finding the choices that draw one.

In Optuna a choice is its dotted path: `network.growth_rate`, `network.one_of` for the branch of a
`one_of` and `network.NAME.growth_rate` for what that branch holds. `encode` and `decode` go
between a value of the tree and the value of Optuna's parameter.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.distributions import Choices, Distribution, OneOf, Range
from micronet_search.config.files import read_candidate
from micronet_search.config.loading import Key, describe, dotted
from micronet_search.config.network import Input

if TYPE_CHECKING:
    import optuna

Parameter = bool | int | float | str | None
"""What Optuna stores for a choice."""

Parameters = dict[str, Parameter]
"""What Optuna stores for a draw, by the dotted paths of its choices."""


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
    low, high = (_on_grid(distribution, end) for end in (distribution.low, distribution.high))
    step, log = distribution.step, distribution.log
    if distribution.whole:
        return trial.suggest_int(path, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(path, low, high, step=step, log=log)


def encode(distribution: Distribution, value: Any) -> Parameter:
    """The Optuna parameter that stands for a value of `distribution`.

    Lists and mappings are compact JSON text, since Optuna stores scalars alone; where one choice
    is, all of them are, so that a parameter has one type.

    Args:
        distribution: Where the value comes from.
        value: One of its values; for a `OneOf` a branch's name.
    """
    if isinstance(distribution, Range):
        return _on_grid(distribution, value)
    if isinstance(distribution, Choices) and _is_text(distribution):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    scalar: Parameter = value
    return scalar


def decode(distribution: Distribution, parameter: Parameter) -> Any:
    """The value of `distribution` that an Optuna parameter stands for: the inverse of `encode`."""
    if isinstance(distribution, Range):
        assert isinstance(parameter, int | float)
        return _on_grid(distribution, parameter)
    if isinstance(distribution, Choices) and _is_text(distribution):
        assert isinstance(parameter, str)
        return json.loads(parameter)
    return parameter


def _is_text(choices: Choices) -> bool:
    return any(isinstance(value, list | dict) for value in choices.values)


def _on_grid(distribution: Range, value: float) -> int | float:
    """The value of the range nearest to `value`, as a decimal fraction would have it.

    Steps are counted in decimals, as Optuna does: from 0.1 in steps of 0.1 the third value is 0.3
    and not 0.30000000000000004, whoever computed it, so that equal draws make equal candidates.
    """
    if distribution.whole:
        return int(value)
    if distribution.step is None:
        return float(value)
    steps = round((value - distribution.low) / distribution.step)
    return float(Decimal(str(distribution.low)) + steps * Decimal(str(distribution.step)))


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

    Every combination of branches is tried in turn. In each, a range takes the greatest value that
    is not above the candidate's, because widths are rounded up to their groups; a choice takes the
    equal value or, where the candidate writes it another way (`groups`, a mapping's defaults), the
    one whose draw comes closest.

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
    closest: tuple[Parameters, list[_Difference]] | None = None
    for guess in _guesses(space, candidate):
        params, differences = _refine(space, candidate, guess)
        if not differences:
            return params
        if closest is None or _weight(differences) < _weight(closest[1]):
            closest = params, differences
    assert closest is not None
    raise OutsideSpaceError(_explain(space, *closest))


def _guesses(node: Any, value: Any, path: str = "") -> Iterator[Parameters]:
    """For every combination of branches, the choices that look like the candidate's `value`."""
    prefix = f"{path}." if path else ""
    match node:
        case OneOf(branches):
            for name, branch in branches.items():
                for params in _guesses(branch, value, f"{prefix}{name}"):
                    yield {f"{prefix}one_of": name, **params}
        case Range():
            yield {path: encode(node, node.nearest(value))}
        case Choices(values):
            yield {path: encode(node, value if value in values else values[0])}
        case dict():
            known = value if isinstance(value, dict) else {}
            parts = [_guesses(part, known.get(name), prefix + name) for name, part in node.items()]
            for combination in itertools.product(*parts):
                yield {path: param for params in combination for path, param in params.items()}
        case _:
            yield {}


class _Difference(NamedTuple):
    """Where a candidate and a draw differ."""

    key: Key
    found: Any
    expected: Any


def _refine(
    space: Any, candidate: dict[str, Any], params: Parameters
) -> tuple[Parameters, list[_Difference]]:
    """Changes one choice at a time while the draw comes closer to the candidate."""
    leaves = distributions.leaves(space)
    differences = _differences(space, candidate, params)
    before = math.inf
    while 0 < _weight(differences) < before:
        before = _weight(differences)
        for path in params:
            distribution = leaves[path][0]
            for option in [] if isinstance(distribution, OneOf) else distribution.options():
                changed = params | {path: encode(distribution, option)}
                found = _differences(space, candidate, changed)
                if _weight(found) < _weight(differences):
                    params, differences = changed, found
    return params, differences


def _differences(space: Any, candidate: dict[str, Any], params: Parameters) -> list[_Difference]:
    """Where the candidate and the draw with `params` differ, in the candidate's order."""
    drawn = distributions.draw(space, lambda path, found: decode(found, params[path])).tree
    try:
        image = Input.model_validate(candidate["input"])
        drawn = read_candidate(drawn, image, candidate["classes"]).model_dump(mode="json")
    except ValidationError:  # Too many strides for these images: compared as drawn.
        drawn = {name: candidate[name] for name in ("input", "classes")} | drawn
    return list(_compare((), candidate, drawn))


def _compare(key: Key, found: Any, expected: Any) -> Iterator[_Difference]:
    if isinstance(found, dict) and isinstance(expected, dict):
        for name in found | expected:
            yield from _compare((*key, name), found.get(name), expected.get(name))
    elif found != expected:
        yield _Difference(key, found, expected)


def _weight(differences: list[_Difference]) -> int:
    """How many values differ; a mapping that is missing counts with all of its own."""
    return sum(max(_values(item.found), _values(item.expected)) for item in differences)


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
            return f"{low} to {_on_grid(found, high)}{grid}"
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
