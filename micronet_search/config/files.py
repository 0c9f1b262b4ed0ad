"""Sweeps and candidates as files: how they are read, checked in full, and written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Choices, OneOf, Range
from micronet_search.config.loading import ConfigError, CoreLoader, Key, read_yaml
from micronet_search.config.network import Input
from micronet_search.config.options import (
    FROM_THE_DATASET,
    MAX_TRIES,
    invalid_options,
    read_candidate,
    refusals,
    tries,
)
from micronet_search.config.sweep import SHAPES, Sweep
from micronet_search.config.validation import validation_problems

__all__ = ["dump_yaml", "invalid_options", "load_candidate", "load_sweep", "read_candidate"]

ANY_IMAGE = Input(height=16_384, width=16_384)
"""Stands for images that are only known once the dataset is read; no stride is too many for it."""


def load_candidate(path: str | Path) -> Candidate:
    """Reads a candidate's file.

    Raises:
        ConfigError: The file is missing or is no candidate.
    """
    document = read_yaml(path)
    problems = list(document.problems)
    try:
        candidate = Candidate.model_validate(document.tree)
    except ValidationError as error:
        found = validation_problems(error, Candidate)
        problems += [document.problem(key, message) for key, message in found]
    if problems:
        raise ConfigError(path, problems)
    return candidate


def load_sweep(path: str | Path) -> Sweep:
    """Reads a sweep's file, with all that can be known to be wrong with it.

    What the strides make of images of a `parquet` or `folder` dataset cannot be known yet:
    `invalid_options` tells once their shape is.

    Raises:
        ConfigError: The file is missing or is no sweep.
    """
    document = read_yaml(path)
    problems = list(document.problems)
    try:
        sweep = Sweep.model_validate(document.tree)
    except ValidationError as error:
        found = validation_problems(error, Sweep)
        problems += [document.problem(key, message) for key, message in found]
    if isinstance(document.tree.get("candidate"), dict):
        space, wrong = _read_space(document.tree)
        problems += [document.problem(key, message) for key, message in wrong]
    if problems:
        raise ConfigError(path, problems)
    folder = Path(path).parent
    start_with = tuple(os.path.abspath(folder / name) for name in sweep.search.start_with)
    return sweep.model_copy(
        update={
            "candidate": distributions.unparse(_with_defaults(space)),
            "search": sweep.search.model_copy(update={"start_with": start_with}),
        }
    )


def dump_yaml(tree: Any) -> str:
    """A plain tree as YAML, keys in their order, short lists on one line."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes lists of scalars on one line; quotes text that 1.1 or 1.2 reads as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump_list(dumper: yaml.SafeDumper, found: list[Any]) -> yaml.Node:
    flow = not any(isinstance(item, dict | list) for item in found)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", found, flow_style=flow)


_Dumper.yaml_implicit_resolvers = {
    first: _Dumper.yaml_implicit_resolvers.get(first, [])
    + CoreLoader.yaml_implicit_resolvers.get(first, [])
    for first in _Dumper.yaml_implicit_resolvers.keys() | CoreLoader.yaml_implicit_resolvers.keys()
}
_Dumper.add_representer(list, _dump_list)


def _read_space(sweep: dict[str, Any]) -> tuple[Any, list[tuple[Key, str]]]:
    """Parses the candidate's tree and tries every option in it.

    Returns:
        The space, and what is wrong with it, by its key in the file.
    """
    root: Key = ("candidate",)
    space, wrong = distributions.parse_all(sweep["candidate"], root)
    if isinstance(space, Range | Choices):
        return space, [(root, "found a distribution, expected a mapping, or one_of with mappings")]
    if tries(space) > MAX_TRIES:
        message = f"found {tries(space)} options and pairs of options to check, expected at most"
        return space, [(root, f"{message} {MAX_TRIES}; a range counts two options")]
    space = _with_fractions(space)
    dataset = sweep.get("dataset")
    name = dataset.get("name") if isinstance(dataset, dict) else None
    shape = SHAPES.get(name, ANY_IMAGE) if isinstance(name, str) else ANY_IMAGE
    problems = [problem for found in wrong.values() for problem in found]
    for key, message in invalid_options(space, shape, 10):
        place = root + key
        # A distribution that is wrong in itself is no value either: once is enough.
        if not any(place[:end] in wrong for end in range(len(place) + 1)):
            problems.append((place, message))
    return space, problems


def _with_fractions(space: Any) -> Any:
    """Turns ranges between whole numbers into fractional ones where the field is."""
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
    """The tree with `new` at the key in the sweep."""
    if not key:
        return new
    if isinstance(node, OneOf):
        _, name, *rest = key
        branch = _replaced(node.branches[str(name)], tuple(rest), new)
        return OneOf({**node.branches, str(name): branch})
    return {**node, key[0]: _replaced(node[key[0]], key[1:], new)}


def _with_defaults(space: Any) -> Any:
    """The space with every default written out, in every branch."""
    for values in _branches(space):
        drawn = distributions.draw(space, distributions.pick_from(values)).tree
        candidate = read_candidate(drawn, ANY_IMAGE, 10)
        whole = candidate.model_dump(mode="json", exclude=set(FROM_THE_DATASET))
        space = _complete(space, whole, values)
    return space


def _branches(space: Any) -> list[dict[str, Any]]:
    """Choices to make such that every branch is taken once."""
    found = distributions.leaves(space).items()
    return [{}] + [
        {**branches, path: name}
        for path, (distribution, branches) in found
        if isinstance(distribution, OneOf)
        for name in distribution.branches
    ]


def _complete(node: Any, whole: Any, values: dict[str, Any], path: str = "") -> Any:
    """The tree with what a validated candidate has and the tree lacks, along the branches taken."""
    prefix = f"{path}." if path else ""
    if isinstance(node, OneOf):
        name = values.get(f"{prefix}one_of", next(iter(node.branches)))
        done = _complete(node.branches[name], whole, values, f"{prefix}{name}")
        return OneOf({**node.branches, name: done})
    if isinstance(node, dict) and isinstance(whole, dict):
        return {
            name: _complete(node[name], value, values, f"{prefix}{name}") if name in node else value
            for name, value in whole.items()
        }
    return node
