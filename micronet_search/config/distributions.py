"""Draws candidates from a tree of distributions and plain values.

`draw` asks a `pick` function for every choice. Validation, Optuna, a random sample and the search
for a known candidate's choices are four ways to pick.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from micronet_search.config.grammar import DistributionError as DistributionError
from micronet_search.config.grammar import misspelt as misspelt
from micronet_search.config.grammar import parse as parse
from micronet_search.config.grammar import parse_all as parse_all
from micronet_search.config.grammar import unparse as unparse
from micronet_search.config.kinds import Choices as Choices
from micronet_search.config.kinds import Distribution as Distribution
from micronet_search.config.kinds import OneOf as OneOf
from micronet_search.config.kinds import Range as Range
from micronet_search.config.loading import Key

Pick = Callable[[str, Distribution], Any]
"""Returns a value or the name of a branch for the dotted path of a choice and its distribution."""

DRAWS = 100
"""Random draws that are tried in the place of all the draws of a space."""


@dataclass(frozen=True)
class Draw:
    """A candidate's plain tree, and where its values come from.

    Attributes:
        tree: The tree, every leaf a value.
        origin: For each value that was picked, from its key in `tree` to its key in the sweep.
        picks: For each value that was picked, from the path of the choice to its key in `tree`.
    """

    tree: Any
    origin: Mapping[Key, Key]
    picks: Mapping[str, Key]

    def source(self, key: Key) -> Key:
        """Returns the key in the sweep's `candidate:` of what is at `key` in the drawn tree."""
        for end in range(len(key), -1, -1):
            if key[:end] in self.origin:
                return self.origin[key[:end]] + key[end:]
        return key


def draw(tree: Any, pick: Pick) -> Draw:
    """Makes a candidate's tree, asking `pick` for every choice on the way."""
    origin: dict[Key, Key] = {}
    picks: dict[str, Key] = {}

    def visit(node: Any, path: str, key: Key, source: Key) -> Any:
        match node:
            case OneOf(branches):
                here = _join(path, "one_of")
                name = pick(here, node)
                picks[here], origin[key] = key, (*source, "one_of", name)
                return visit(branches[name], _join(path, name), key, origin[key])
            case Choices():
                value = pick(path, node)
                picks[path], origin[key] = key, (*source, "choices", node.index(value))
                return value
            case Range():
                picks[path], origin[key] = key, source
                return pick(path, node)
            case dict():
                return {
                    name: visit(value, _join(path, name), (*key, name), (*source, name))
                    for name, value in node.items()
                }
        return node

    return Draw(visit(tree, "", (), ()), origin, picks)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def leaves(tree: Any) -> dict[str, tuple[Distribution, dict[str, str]]]:
    """Returns every choice of a tree: its distribution and the branches on its way, by its path."""
    found: dict[str, tuple[Distribution, dict[str, str]]] = {}

    def visit(node: Any, path: str, branches: dict[str, str]) -> None:
        match node:
            case OneOf(subtrees):
                here = _join(path, "one_of")
                found[here] = (node, branches)
                for name, subtree in subtrees.items():
                    visit(subtree, _join(path, name), {**branches, here: name})
            case Range() | Choices():
                found[path] = (node, branches)
            case dict():
                for name, value in node.items():
                    visit(value, _join(path, name), branches)

    visit(tree, "", {})
    return found


def pick_from(values: Mapping[str, Any]) -> Pick:
    """Picks the given values, and the first option everywhere else."""
    return lambda path, found: values[path] if path in values else found.options()[0]


def pick_random(rng: random.Random) -> Pick:
    """Picks evenly at random."""
    return lambda _, found: found.sample(rng)


def complete(tree: Any, values: Mapping[str, Any], rng: random.Random | None) -> dict[str, Any]:
    """Returns all choices of a draw that makes the given ones and others at random.

    Without a generator the others are the first options.
    """
    otherwise = pick_from({}) if rng is None else pick_random(rng)
    chosen = dict(values)
    draw(tree, lambda path, found: chosen.setdefault(path, otherwise(path, found)))
    return chosen


def singles(tree: Any) -> Iterator[dict[str, Any]]:
    """Yields choices such that every option, and every value of a short range, is made once.

    Each comes with the branches on its way, and is the last one.
    """
    yield {}
    for path, (distribution, branches) in leaves(tree).items():
        for option in distribution.options():
            yield {**branches, path: option}
