"""Completes a space: ranges of fractional fields are fractional, and defaults are written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from micronet_search.config import distributions
from micronet_search.config.distributions import OneOf, Range
from micronet_search.config.loading import Key
from micronet_search.config.network import Input
from micronet_search.config.options import (
    FROM_THE_DATASET,
    Values,
    read_candidate,
    refusals,
    some_candidate,
)

ANY_IMAGE = Input(height=16_384, width=16_384)
"""Stands for images of unknown shape. No stride is too many for it."""


def with_fractions(space: Any) -> Any:
    """Turns ranges between whole numbers into fractional ones if the field takes fractions."""
    for path, (found, branches) in distributions.leaves(space).items():
        if isinstance(found, Range) and found.whole:
            middle = {**branches, path: found.low + 0.5}
            drawn = distributions.draw(space, distributions.pick_from(middle))
            key = drawn.picks[path]
            wrong = [place for place, _ in refusals(drawn.tree, ANY_IMAGE, 10)]
            if not any(place[: len(key)] == key for place in wrong):
                low, high = float(found.low), float(found.high)
                step = None if found.step is None else float(found.step)
                fractional = replace(found, low=low, high=high, step=step, whole=False)
                space = _replaced(space, drawn.origin[key], fractional)
    return space


def _replaced(node: Any, key: Key, new: Range) -> Any:
    """Returns the tree with `new` at a key of the sweep."""
    if not key:
        return new
    if isinstance(node, OneOf):
        _, name, *rest = key
        branch = _replaced(node.branches[str(name)], tuple(rest), new)
        return OneOf({**node.branches, str(name): branch})
    return {**node, key[0]: _replaced(node[key[0]], key[1:], new)}


def with_defaults(space: Any, input: Input) -> Any:
    """Writes every default out, in every branch of a space whose options were tried."""
    branches = [
        {**before, path: name}
        for path, (found, before) in distributions.leaves(space).items()
        if isinstance(found, OneOf)
        for name in found.branches
    ]
    beside = some_candidate(space, {}, input, 10)
    assert beside is not None
    for values in [{}, *branches]:
        choices = some_candidate(space, values, input, 10, beside)
        assert choices is not None, values
        drawn = distributions.draw(space, distributions.pick_from(choices)).tree
        candidate = read_candidate(drawn, input, 10)
        whole = candidate.model_dump(mode="json", exclude=set(FROM_THE_DATASET))
        space = _completed(space, whole, choices)
    return space


def _completed(node: Any, whole: Any, choices: Values, path: str = "") -> Any:
    """Returns the tree with what a candidate has and the tree lacks, along the branches chosen."""
    prefix = f"{path}." if path else ""
    if isinstance(node, OneOf):
        name = choices[f"{prefix}one_of"]
        done = _completed(node.branches[name], whole, choices, f"{prefix}{name}")
        return OneOf({**node.branches, name: done})
    if isinstance(node, dict) and isinstance(whole, dict):
        return {
            name: _completed(node[name], value, choices, f"{prefix}{name}")
            if name in node
            else value
            for name, value in whole.items()
        }
    return node
