"""Completes a space: ranges of fractional fields are fractional, and defaults are written out."""

from __future__ import annotations

from typing import Any

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import OneOf, Range
from micronet_search.config.loading import Key
from micronet_search.config.network import Input
from micronet_search.config.options import (
    FROM_THE_DATASET,
    Values,
    read_candidate,
    some_candidate,
)
from micronet_search.config.validation import takes_fractions

ANY_IMAGE = Input(height=16_384, width=16_384)
"""Stands for images of unknown shape. No stride is too many for it."""


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
