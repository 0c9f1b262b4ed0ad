"""Sweeps and candidates as files: how they are read, checked in full, and written."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate, Input
from micronet_search.config.distributions import DistributionError, Draw, OneOf, Range
from micronet_search.config.loading import (
    ConfigError,
    CoreLoader,
    Document,
    Key,
    Problem,
    dotted,
    read_yaml,
    validation_problems,
)
from micronet_search.config.sweep import Sweep

FROM_THE_DATASET = ("input", "classes")
"""The fields of a candidate that a sweep does not give: the dataset does."""


def read_candidate(tree: Any, input: Input | None = None, classes: int | None = None) -> Candidate:
    """Validates a drawn tree for images of the given shape.

    Raises:
        pydantic.ValidationError: The tree is no candidate.
    """
    given = {} if input is None else {"input": input.model_dump(), "classes": classes}
    return Candidate.model_validate(tree | given)


def load_candidate(path: str | Path) -> Candidate:
    """Reads a candidate's file.

    Raises:
        ConfigError: The file is missing or is no candidate.
    """
    document = read_yaml(path)
    try:
        return Candidate.model_validate(document.tree)
    except ValidationError as error:
        found = validation_problems(error, Candidate)
        problems = [document.problem(key, message) for key, message in found]
        raise ConfigError(path, problems) from None


def load_sweep(path: str | Path) -> Sweep:
    """Reads a sweep's file, with all that can be known to be wrong with it.

    Raises:
        ConfigError: The file is missing or is no sweep.
    """
    document = read_yaml(path)
    problems: list[Problem] = []
    tree = dict(document.tree)
    try:
        sweep = Sweep.model_validate(tree)
    except ValidationError as error:
        found = validation_problems(error, Sweep)
        problems = [document.problem(key, message) for key, message in found]
    try:
        candidate = tree.get("candidate")
        space = _read_space(document, candidate) if isinstance(candidate, dict) else None
    except ConfigError as error:
        problems.extend(error.problems)
    if problems:
        raise ConfigError(path, problems)
    assert space is not None
    folder = Path(path).parent
    start_with = tuple(os.path.join(folder, name) for name in sweep.search.start_with)
    return sweep.model_copy(
        update={
            "candidate": distributions.unparse(space),
            "search": sweep.search.model_copy(update={"start_with": start_with}),
        }
    )


def dump_yaml(tree: Any) -> str:
    """A plain tree as YAML, keys in their order, short lists on one line."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes lists of scalars on one line, and quotes text that 1.1 or 1.2 reads as another type."""


def _dump_list(dumper: yaml.SafeDumper, found: list[Any]) -> yaml.Node:
    flow = not any(isinstance(item, dict | list) for item in found)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", found, flow_style=flow)


_Dumper.yaml_implicit_resolvers = {
    first: _Dumper.yaml_implicit_resolvers.get(first, [])
    + CoreLoader.yaml_implicit_resolvers.get(first, [])
    for first in _Dumper.yaml_implicit_resolvers.keys() | CoreLoader.yaml_implicit_resolvers.keys()
}
_Dumper.add_representer(list, _dump_list)


def _read_space(document: Document, tree: dict[str, Any]) -> Any:
    """Parses the candidate's tree, tries every option in it, and writes the defaults out."""
    root: Key = ("candidate",)
    for name in FROM_THE_DATASET:
        if name in tree:
            raise document.error((*root, name), "not for a sweep to give, the dataset does")
    try:
        space = distributions.parse(tree, root)
    except DistributionError as error:
        raise document.error(error.key, error.message) from None
    _try_options(document, space, pairs=False)
    space = _with_fractions(space)
    _try_options(document, space, pairs=True)
    for values in _branches(space):
        drawn = distributions.draw(space, distributions.pick_from(values)).tree
        whole = read_candidate(drawn).model_dump(mode="json", exclude=set(FROM_THE_DATASET))
        space = _complete(space, whole, values)
    return space


def _try_options(document: Document, space: Any, *, pairs: bool) -> None:
    found: dict[Problem, None] = {}
    singles = 1 + sum(len(d.options()) for d, _ in distributions.leaves(space).values())
    for i, values in enumerate(distributions.covering(space)):
        if i == singles and (found or not pairs):
            break
        drawn = distributions.draw(space, distributions.pick_from(values))
        for key, message in _problems_of(drawn):
            found[document.problem(("candidate", *drawn.source(key)), message)] = None
    if found:
        raise ConfigError(document.file, found)


def _problems_of(drawn: Draw) -> list[tuple[Key, str]]:
    try:
        read_candidate(drawn.tree)
    except ValidationError as error:
        return validation_problems(error, Candidate)
    return []


def _with_fractions(space: Any) -> Any:
    """Turns ranges between whole numbers into fractional ones where the field is."""
    for path, (distribution, branches) in distributions.leaves(space).items():
        if isinstance(distribution, Range) and distribution.whole:
            middle = {**branches, path: distribution.low + 0.5}
            drawn = distributions.draw(space, distributions.pick_from(middle))
            here = [key for key, source in drawn.origin.items() if _path(source) == path]
            wrong = {key for key, _ in _problems_of(drawn)}
            if not wrong & set(here):
                space = _replaced(space, distribution, path)
    return space


def _path(source: Key) -> str:
    return dotted(tuple(part for part in source if part != "one_of"))


def _replaced(node: Any, old: Range, path: str) -> Any:
    """The tree with the whole range at `path` made fractional."""
    if not path:
        return replace(
            old,
            low=float(old.low),
            high=float(old.high),
            step=None if old.step is None else float(old.step),
            whole=False,
        )
    name, _, rest = path.partition(".")
    if isinstance(node, OneOf):
        return OneOf({**node.branches, name: _replaced(node.branches[name], old, rest)})
    return {**node, name: _replaced(node[name], old, rest)}


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
