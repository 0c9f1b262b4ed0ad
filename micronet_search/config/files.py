"""Sweeps and candidates as files: how they are read, checked and written."""

import os
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Choices, Range
from micronet_search.config.grammar import Wrong, parse_all, unparse
from micronet_search.config.loading import ConfigError, CoreLoader, Document, Key, read_yaml
from micronet_search.config.model import Model
from micronet_search.config.network import Input
from micronet_search.config.options import invalid_options, with_defaults, with_fractions
from micronet_search.config.options import read_candidate as read_candidate
from micronet_search.config.sweep import SHAPES, Sweep
from micronet_search.config.validation import validation_problems

try:
    from yaml import CSafeDumper as SafeDumper  # three times as fast
except ImportError:  # PyYAML was built without libyaml
    from yaml import SafeDumper  # type: ignore[assignment]

ROOT: Key = ("candidate",)
"""The key of a sweep's space."""

ANY_IMAGE = Input(height=16_384, width=16_384)
"""Stands for images of unknown shape. No stride is too many for it."""

Found = TypeVar("Found", bound=Model)


def load_candidate(path: str | Path) -> Candidate:
    """Reads a candidate's file.

    Raises:
        ConfigError: The file is missing or is no candidate.
    """
    return _validated(path, read_yaml(path), Candidate)


def load_untrained(path: str | Path) -> Candidate:
    """Reads a candidate's file, which may leave out `training`: it changes no cost.

    Raises:
        ConfigError: The file is missing or is no candidate.
    """
    document = read_yaml(path)
    document.tree.setdefault("training", {"epochs": 1, "learning_rate": 0.1})
    return _validated(path, document, Candidate)


def load_sweep(path: str | Path) -> Sweep:
    """Reads a sweep that a user wrote, tries its options, and writes out its defaults.

    The images of a `parquet` or `folder` dataset are not known yet; `invalid_options` tells later
    what the strides make of them.

    Raises:
        ConfigError: The file is missing or is no sweep.
    """
    document, shape = read_yaml(path), ANY_IMAGE
    match document.tree:
        case {"dataset": {"name": str(name)}}:
            shape = SHAPES.get(name, ANY_IMAGE)
    space, wrong = _read_space(document.tree.get("candidate"), shape)
    sweep = _validated(path, document, Sweep, wrong)
    folder = Path(path).parent
    start_with = tuple(os.path.abspath(folder / name) for name in sweep.search.start_with)
    return sweep.model_copy(
        update={
            "candidate": unparse(with_defaults(space, shape)),
            "search": sweep.search.model_copy(update={"start_with": start_with}),
        }
    )


def load_stored_sweep(path: str | Path) -> Sweep:
    """Reads a sweep that `dump_yaml` wrote into a study's folder, without trying its options.

    Raises:
        ConfigError: The file is missing or damaged.
    """
    document = read_yaml(path)
    _, wrong = parse_all(document.tree.get("candidate"), ROOT)
    return _validated(path, document, Sweep, chain.from_iterable(wrong.values()))


def _validated(
    path: str | Path, document: Document, model: type[Found], wrong: Iterable[tuple[Key, str]] = ()
) -> Found:
    """Returns the model that a file holds, unless something is wrong with it."""
    try:
        found = model.model_validate(document.tree)
    except ValidationError as error:
        wrong = [*validation_problems(error, model), *wrong]
    problems = [*document.problems, *(document.problem(key, message) for key, message in wrong)]
    if problems:
        raise ConfigError(path, problems)
    return found


def _read_space(tree: Any, shape: Input) -> tuple[Any, list[Wrong]]:
    """Returns the space of a sweep and what is wrong with it, by its key in the file."""
    if not isinstance(tree, dict):
        return None, []  # which is reported with the other fields of the sweep
    space, wrong = parse_all(tree, ROOT)
    if isinstance(space, Range | Choices):
        return space, [(ROOT, "found a distribution, expected a mapping, or one_of with mappings")]
    space = with_fractions(space)
    problems = list(chain.from_iterable(wrong.values()))
    for key, message in invalid_options(space, shape, 10):
        place = ROOT + key
        # A distribution that is wrong in itself is no value either: once is enough.
        if not any(place[:end] in wrong for end in range(len(place) + 1)):
            problems.append((place, message))
    return space, problems


def dump_yaml(tree: Any) -> str:
    """Returns a plain tree as YAML, keys in their order, short lists on one line."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)


class _Dumper(SafeDumper):
    """Writes lists of scalars on one line; quotes text that 1.1 or 1.2 reads as another type."""

    yaml_implicit_resolvers = (
        SafeDumper.yaml_implicit_resolvers | CoreLoader.yaml_implicit_resolvers
    )

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_list(self, data: Iterable[Any]) -> yaml.SequenceNode:
        flow = not any(isinstance(item, dict | list) for item in data)
        return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=flow)


_Dumper.add_representer(list, _Dumper.represent_list)
