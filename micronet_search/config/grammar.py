"""How distributions are written in a sweep: `low`/`high`, `choices`, `one_of`."""

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from micronet_search.config.distributions import Choices, OneOf, Range, steps
from micronet_search.config.loading import Key, describe
from micronet_search.config.validation import WORDS, unknown_key

Wrong = tuple[Key, str]
"""A key, and what is wrong there."""

MAX_STEPS = 1_000_000
LIMIT = 10**15
"""Numbers of a range are below it."""
MAX_PATH = 250  # MLflow takes no longer name of a param
_BRANCH = re.compile(r"[\w :-]+(/[\w :-]+)*")  # as MLflow's params allow it


class DistributionError(ValueError):
    """A distribution that cannot be: the key where it stands, and what is wrong."""

    def __init__(self, key: Key, message: str) -> None:
        self.key, self.message = key, message
        super().__init__(message)


def parse(tree: Any) -> Any:
    """Reads a `candidate:` tree: mappings, distributions and plain values.

    Raises:
        DistributionError: A range is empty, a choice is missing, keys are mixed.
    """
    space, wrong = parse_all(tree)
    for first, *_ in wrong.values():
        raise DistributionError(*first)
    return space


def parse_all(tree: Any, root: Key = ()) -> tuple[Any, dict[Key, list[Wrong]]]:
    """Reads a tree as `parse` does, and collects what is wrong by the key of the distribution.

    A wrong distribution is left in the tree as it is written. `root` is the tree's own key.
    """
    wrong: dict[Key, list[Wrong]] = {}

    def visit(node: Any, key: Key) -> Any:
        if found := list(_wrong(node, key, root)):
            wrong[key] = found
            return node
        match node:
            case {"one_of": branches}:
                at = (*key, "one_of")
                return OneOf({name: visit(part, (*at, name)) for name, part in branches.items()})
            case {"choices": values}:
                return Choices(tuple(values))
            case {"low": _}:
                return _range(**node)
            case dict():
                return {name: visit(value, (*key, name)) for name, value in node.items()}
        return node

    return visit(tree, root), wrong


def unparse(tree: Any) -> Any:
    """Returns the plain tree that `parse` reads as `tree`."""
    match tree:
        case Range(low, high, step, log):
            rest = {"step": step, "log": log}
            return {"low": low, "high": high} | {name: rest[name] for name in rest if rest[name]}
        case Choices(values):
            return {"choices": list(values)}
        case OneOf(branches):
            return {"one_of": {name: unparse(branch) for name, branch in branches.items()}}
        case dict():
            return {name: unparse(value) for name, value in tree.items()}
    return tree


def _range(low: float, high: float, step: float | None = None, log: bool = False) -> Range:
    whole = all(isinstance(value, int) for value in (low, high, step or 1))
    if not whole:
        low, high, step = float(low), float(high), None if step is None else float(step)
    if step is not None:
        high = low + steps(low, high, step) * step
    return Range(low, high, step, log, whole)


def _wrong(node: Any, key: Key, root: Key) -> Iterator[Wrong]:
    """Yields what is wrong with a distribution, or with a list of plain values."""
    match node:
        case {"one_of": branches}:
            known, found = ["one_of"], _wrong_branches(branches, (*key, "one_of"))
        case {"choices": values}:
            known, found = ["choices"], _wrong_values(values, (*key, "choices"))
        case {"low": _} | {"high": _}:
            known, found = ["low", "high", "step", "log"], _wrong_range(node, key)
        case list():
            place = "a list, which is searched whole, with choices"
            yield from _distributions_within(node, key, place)
            return
        case _:
            return
    yield from (((*key, name), unknown_key(name, known)) for name in node if name not in known)
    yield from found
    yield from _wrong_path(key, root, ["one_of"] if "one_of" in node else [])


def _wrong_branches(branches: Any, key: Key) -> Iterator[Wrong]:
    if not isinstance(branches, dict) or not branches:
        yield key, f"found {describe(branches)}, expected a mapping from names to subtrees"
        return
    for name in branches:
        if "." in name or name == "one_of":
            yield (*key, name), f"found a branch named {name!r}, expected a name without dots"


def _wrong_values(values: Any, key: Key) -> Iterator[Wrong]:
    if not isinstance(values, list) or not values:
        yield key, f"found {describe(values)}, expected a list with at least one value"
        return
    texts = [json.dumps(value, sort_keys=True) for value in values]
    for i, value in enumerate(values):
        if texts.index(texts[i]) < i:
            yield (*key, i), f"found {describe(value)} a second time, expected each value once"
    yield from _distributions_within(values, key, "choices; one_of has subtrees to search")


def _distributions_within(value: Any, key: Key, place: str) -> Iterator[Wrong]:
    """Yields the distributions where only plain values can be."""
    if isinstance(value, dict) and value.keys() & WORDS:
        yield key, f"found {describe(value)}, expected a plain value within {place}"
    elif isinstance(value, dict | list):
        for part, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _distributions_within(item, (*key, part), place)


def _wrong_range(node: dict[str, Any], key: Key) -> Iterator[Wrong]:
    missing = [name for name in ("low", "high") if name not in node]
    yield from ((key, f"{name} is missing, expected a range with low and high") for name in missing)
    wrong = [name for name in ("low", "high", "step") if not _is_number(node.get(name, 0))]
    for name in wrong:
        yield (*key, name), f"found {describe(node[name])}, expected a number below 1e15"
    log = node.get("log", False)
    if not isinstance(log, bool):
        yield (*key, "log"), f"found {describe(log)}, expected true or false"
    if wrong or missing:
        return
    low, high, step = node["low"], node["high"], node.get("step")
    if low > high:
        yield key, f"found low {low} above high {high}, expected low <= high"
    if step is not None and step <= 0:
        yield (*key, "step"), f"found {step}, expected a step above 0"
    elif step is not None and (high - low) / step > MAX_STEPS:
        yield (*key, "step"), f"found {step}, expected at most {MAX_STEPS} steps from low to high"
    if log is True and step is not None:
        yield key, "found log: true and a step, expected one of the two"
    if log is True and low <= 0:
        yield (*key, "log"), f"found log: true and low {low}, expected low above 0"


def _is_number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and abs(value) < LIMIT


def _wrong_path(key: Key, root: Key, end: list[str]) -> Iterator[Wrong]:
    """Yields what is wrong with the path under which Optuna and MLflow keep a choice."""
    for i, (word, name) in enumerate(pairwise(key), 2):
        if word == "one_of" and not _BRANCH.fullmatch(str(name)):
            message = f"found a branch named {describe(name)}, expected letters, digits, spaces"
            yield key[:i], f"{message}, - and _, and : or / between them"
    path = ".".join([str(part) for part in key[len(root) :] if part != "one_of"] + end)
    if len(path) > MAX_PATH:
        message = f"found a path of {len(path)} characters, expected at most {MAX_PATH}"
        yield key, f"{message}; names of branches are in it"
