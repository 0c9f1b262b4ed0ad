"""Whether all that a space can draw are candidates: its options are tried, alone and in pairs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Draw
from micronet_search.config.loading import Key, dotted
from micronet_search.config.network import Input
from micronet_search.config.validation import MAX_PROBLEMS, validation_problems

FROM_THE_DATASET = ("input", "classes")
"""The fields of a candidate that a sweep does not give: the dataset does."""

MAX_TRIES = 40_000
"""Options and pairs of options at most; trying so many takes ten seconds."""


def read_candidate(tree: Any, input: Input | None = None, classes: int | None = None) -> Candidate:
    """Validates a drawn tree for images of the given shape.

    Raises:
        pydantic.ValidationError: The tree is no candidate.
    """
    if input is not None and isinstance(tree, dict):
        tree = tree | {"input": input.model_dump(), "classes": classes}
    return Candidate.model_validate(tree)


def invalid_options(
    space: Any, input: Input | None = None, classes: int | None = None
) -> list[tuple[Key, str]]:
    """What is wrong with a space for images of the given shape.

    Returns:
        Keys in the sweep's `candidate:` and messages; none where every option and every pair of
        options makes a candidate. Pairs are tried where every option alone is valid, and where
        some rule can read both.
    """
    base = distributions.draw(space, distributions.pick_from({}))
    general = {base.source(key): message for key, message in refusals(base.tree, input, classes)}
    found = dict(general)
    for attempts in (distributions.singles(space), distributions.pairs(space, related)):
        for values in attempts:
            drawn = distributions.draw(space, distributions.pick_from(values))
            for key, message in refusals(drawn.tree, input, classes):
                if general.get(drawn.source(key)) != message:
                    place, message = _blame(drawn, key, message, values)
                    found.setdefault(place, message)
            if len(found) >= MAX_PROBLEMS:
                break
        if found:
            break
    return list(found.items())


def refusals(
    tree: Any, input: Input | None = None, classes: int | None = None
) -> list[tuple[Key, str]]:
    """Why a drawn tree is no candidate, as keys of the tree and messages; none where it is one."""
    found: list[tuple[Key, str]] = []
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


def tries(space: Any) -> int:
    """How many options, and pairs of options that some rule can read, a space has."""
    counts = {
        path: len(found.options()) for path, (found, _) in distributions.leaves(space).items()
    }
    meeting = distributions.meeting(space, related)
    return sum(counts.values()) + sum(counts[one] * counts[other] for one, other in meeting)


def related(one: str, other: str) -> bool:
    """Whether a rule can read the choices at both paths.

    The parts of a candidate are judged each by itself, or against its network.
    """
    parts = {path.partition(".")[0] for path in (one, other)}
    return len(parts) == 1 or "network" in parts


def _blame(drawn: Draw, key: Key, message: str, values: Mapping[str, Any]) -> tuple[Key, str]:
    """Places what is wrong between the fields of a mapping at the options that were taken there."""
    taken = list(_taken_below(drawn, key, values))
    if not taken:
        return drawn.source(key), message
    *others, last = taken
    beside = "".join(f" (with {dotted(('candidate', *other))})" for other in others)
    return last, message + beside


def _taken_below(drawn: Draw, key: Key, values: Mapping[str, Any]) -> Iterator[Key]:
    for path, picked in drawn.picks.items():
        if path in values and len(picked) > len(key) and picked[: len(key)] == key:
            yield drawn.origin[picked]
