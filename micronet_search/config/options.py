"""Tries the options of a space: tells which make no candidate, and writes the defaults out."""

import random
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Draw, OneOf, Range, draw, join, pick_from
from micronet_search.config.grammar import Wrong
from micronet_search.config.loading import Key
from micronet_search.config.network import Input
from micronet_search.config.validation import MAX_PROBLEMS, takes_fractions, validation_problems

FROM_THE_DATASET = ("input", "classes")
"""The fields of a candidate that the dataset gives and a sweep may not."""

MAX_OPTIONS = 5_000  # which take ten seconds
MAX_BLAMED = 10
"""The most options that are reported because they go with no others. Each takes many draws."""

Values = Mapping[str, Any]
"""The values or branches that were chosen, by the paths of the choices."""


def read_candidate(tree: Any, input: Input | None = None, classes: int | None = None) -> Candidate:
    """Validates a drawn tree for images of the given shape.

    Raises:
        pydantic.ValidationError: The tree is no candidate.
    """
    if input is not None and isinstance(tree, dict):
        tree = tree | {"input": input.model_dump(), "classes": classes}
    return Candidate.model_validate(tree)


def refusals(tree: Any, input: Input | None = None, classes: int | None = None) -> list[Wrong]:
    """Returns why a drawn tree is no candidate, by keys of the tree; nothing if it is one."""
    found: list[Wrong] = []
    if isinstance(tree, dict):
        given = [name for name in FROM_THE_DATASET if name in tree]
        found += [((name,), "not for a sweep to give, the dataset does") for name in given]
        tree = {name: value for name, value in tree.items() if name not in given}
    try:
        read_candidate(tree, input, classes)
    except ValidationError as error:
        found += validation_problems(error, Candidate)
    return found


def invalid_options(
    space: Any, input: Input | None = None, classes: int | None = None
) -> list[Wrong]:
    """Returns what is wrong with a space for images of the given shape.

    Each option is tried once, beside others that make a candidate. What breaks a rule between
    several options is wrong only if a hundred random draws with the option make no candidate
    either. Options that fail less often are left to screening.
    """
    attempts = list(distributions.singles(space))
    if len(attempts) > MAX_OPTIONS:
        return [((), f"found {len(attempts)} options, expected at most {MAX_OPTIONS}")]
    valid = valid_draw(space, {}, input, classes)
    beside: Values = valid.choices if valid else {}
    found: dict[Key, str] = {}
    suspects: dict[Key, tuple[str, Values]] = {}
    for values in attempts:
        drawn = draw(space, pick_from({**beside, **values}))
        for key, message in refusals(drawn.tree, input, classes):
            if not values or not any(_is_within(picked, key) for picked in drawn.picks.values()):
                found.setdefault(drawn.source(key), message)  # the same for all draws
                continue
            tried = drawn.picks[list(values)[-1]]
            place = key if key == tried or _is_within(key, tried) else tried
            suspects.setdefault(drawn.source(place), (message, values))
    if valid and not found:
        for key, (message, chosen) in suspects.items():
            if len(found) < MAX_BLAMED and not valid_draw(space, chosen, input, classes, beside):
                found[key] = message
    return list(found.items())[:MAX_PROBLEMS]


def _is_within(key: Key, other: Key) -> bool:
    return len(key) > len(other) and key[: len(other)] == other


def valid_draw(
    space: Any,
    values: Values,
    input: Input | None = None,
    classes: int | None = None,
    beside: Values | None = None,
) -> Draw | None:
    """Returns a draw that is a candidate and makes the given choices; None if none is found.

    Tries the choices in `beside` and the first options with them, and then a hundred random draws.
    """
    at_random = pick_from(values, distributions.pick_random(random.Random(0)))
    first = pick_from({**(beside or {}), **values})
    for pick in (first, *[at_random] * distributions.DRAWS):
        drawn = draw(space, pick)
        if not refusals(drawn.tree, input, classes):
            return drawn
    return None


def with_fractions(space: Any, key: Key = ()) -> Any:
    """Turns ranges between whole numbers into fractional ones if the field takes fractions."""
    match space:
        case Range(low, high, step, log, whole=True) if takes_fractions(Candidate, key):
            return Range(float(low), float(high), step and float(step), log, whole=False)
        case OneOf(branches):
            return OneOf({name: with_fractions(branch, key) for name, branch in branches.items()})
        case dict():
            return {name: with_fractions(part, (*key, name)) for name, part in space.items()}
    return space


def with_defaults(space: Any, input: Input) -> Any:
    """Writes every default out, in every branch of a space whose options were tried."""
    beside: Values = {}
    for values in list(distributions.singles(space)):
        if values and not list(values)[-1].endswith("one_of"):
            continue
        drawn = valid_draw(space, values, input, 10, beside)
        assert drawn is not None, values
        beside = beside or drawn.choices
        candidate = read_candidate(drawn.tree, input, 10)
        whole = candidate.model_dump(mode="json", exclude=set(FROM_THE_DATASET))
        space = _completed(space, whole, drawn.choices)
    return space


def _completed(node: Any, whole: Any, choices: Values, path: str = "") -> Any:
    """Returns the tree with what a candidate has and the tree lacks, along the branches chosen."""
    if isinstance(node, OneOf):
        name = choices[join(path, "one_of")]
        done = _completed(node.branches[name], whole, choices, join(path, name))
        return OneOf({**node.branches, name: done})
    if isinstance(node, dict) and isinstance(whole, dict):
        return {
            name: _completed(node[name], value, choices, join(path, name))
            if name in node
            else value
            for name, value in whole.items()
        }
    return node
