"""Finds the options of a space that make no candidate, by trying them."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Draw
from micronet_search.config.loading import Key
from micronet_search.config.network import Input
from micronet_search.config.validation import MAX_PROBLEMS, validation_problems

FROM_THE_DATASET = ("input", "classes")
"""The fields of a candidate that the dataset gives and a sweep may not."""

MAX_OPTIONS = 5_000
"""The most options that are tried, which takes ten seconds."""

MAX_BLAMED = 10
"""The most options that are reported because they go with no others. Each takes many draws."""

Values = Mapping[str, Any]
"""The values or branches that were chosen, by the paths of the choices."""

Wrong = list[tuple[Key, str]]
"""Keys and messages."""


def read_candidate(tree: Any, input: Input | None = None, classes: int | None = None) -> Candidate:
    """Validates a drawn tree for images of the given shape.

    Raises:
        pydantic.ValidationError: The tree is no candidate.
    """
    if input is not None and isinstance(tree, dict):
        tree = tree | {"input": input.model_dump(), "classes": classes}
    return Candidate.model_validate(tree)


def refusals(tree: Any, input: Input | None = None, classes: int | None = None) -> Wrong:
    """Returns why a drawn tree is no candidate, by keys of the tree; nothing if it is one."""
    found: Wrong = []
    if isinstance(tree, dict):
        given = [name for name in FROM_THE_DATASET if name in tree]
        found += [((name,), "not for a sweep to give, the dataset does") for name in given]
        tree = {name: value for name, value in tree.items() if name not in given}
    try:
        read_candidate(tree, input, classes)
    except ValidationError as error:
        for key, message in validation_problems(error, Candidate):
            hint = distributions.misspelt(_value_at(tree, key)) if "found" in message else ""
            found.append((key, message + hint))
    return found


def _value_at(tree: Any, key: Key) -> Any:
    for part in key:
        if not isinstance(tree, dict) or part not in tree:
            return None
        tree = tree[part]
    return tree


def invalid_options(space: Any, input: Input | None = None, classes: int | None = None) -> Wrong:
    """Returns what is wrong with a space for images of the given shape.

    Each option is tried once, beside others that make a candidate. What breaks a rule between
    several options is wrong only if a hundred random draws with the option make no candidate
    either. Options that fail less often are left to screening.

    Returns:
        Keys in the sweep's `candidate:` and messages.
    """
    attempts = list(distributions.singles(space))
    if len(attempts) > MAX_OPTIONS:
        return [((), f"found {len(attempts)} options, expected at most {MAX_OPTIONS}")]
    beside = some_candidate(space, {}, input, classes)
    found: dict[Key, str] = {}
    suspects: dict[Key, tuple[str, Values]] = {}
    for values in attempts:
        drawn = _drawn(space, {**(beside or {}), **values})
        for key, message in refusals(drawn.tree, input, classes):
            if _is_certain(drawn, key) or not values:
                found.setdefault(drawn.source(key), message)
            else:
                suspects.setdefault(_place(drawn, key, values), (message, values))
    if beside is not None and not found:
        never = (
            (key, message)
            for key, (message, values) in suspects.items()
            if some_candidate(space, values, input, classes, beside) is None
        )
        found.update(itertools.islice(never, MAX_BLAMED))
    return list(found.items())[:MAX_PROBLEMS]


def some_candidate(
    space: Any,
    values: Values,
    input: Input | None = None,
    classes: int | None = None,
    beside: Values = MappingProxyType({}),
) -> Values | None:
    """Returns choices that make a candidate and include the given ones; None if none are found.

    Tries the choices in `beside` and the first options with them, and then a hundred random draws.
    """
    rng = random.Random(0)
    for number in range(1 + distributions.DRAWS):
        given, generator = (values, rng) if number else ({**beside, **values}, None)
        choices = distributions.complete(space, given, generator)
        if not refusals(_drawn(space, choices).tree, input, classes):
            return choices
    return None


def _drawn(space: Any, values: Values) -> Draw:
    return distributions.draw(space, distributions.pick_from(values))


def _is_certain(drawn: Draw, key: Key) -> bool:
    """Whether a problem is the same for all draws: no choice was made below its key."""
    picked = drawn.picks.values()
    return not any(len(other) > len(key) and other[: len(key)] == key for other in picked)


def _place(drawn: Draw, key: Key, values: Values) -> Key:
    """Returns where to report a problem: at its key, or else at the option that was tried."""
    picked = drawn.picks[list(values)[-1]]
    return drawn.source(key if key[: len(picked)] == picked else picked)
