"""YAML files -> plain trees, with the position of every key, and errors that name it.

The scalars are those of YAML 1.2's core schema (`1e-3` is a number, `off` a string), read through
PyYAML's safe loader; a duplicate key is an error.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

from micronet_search.config.reading import read_bytes

Key = tuple[str | int, ...]
"""The path of a value in a tree: mapping keys and list indices from the root."""

# A sweep is a page of text. What is larger is a mistake, and PyYAML takes seconds for it.
MAX_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_VALUES = 2_000
MAX_LINES = 100
"""Problems that an error shows: more than anyone reads at once."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file.

    Attributes:
        line: Line in the file, from 1; 0 where no line is to blame.
        column: Column in the line, from 1; 0 likewise.
        key: Dotted path of the key, empty for the file as a whole.
        message: What was found and what was expected.
    """

    line: int
    column: int
    key: str
    message: str


class ConfigError(ValueError):
    """A file that cannot be used, with every problem that was found in it."""

    def __init__(self, file: str | Path, problems: Iterable[Problem]) -> None:
        self.file = str(file)
        self.problems = sorted(set(problems))
        lines = [self._line(problem) for problem in self.problems[:MAX_LINES]]
        if len(self.problems) > MAX_LINES:
            lines.append(f"{self.file}: and {len(self.problems) - MAX_LINES} more problems")
        super().__init__("\n".join(lines))

    def _line(self, problem: Problem) -> str:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        key = f" {problem.key}:" if problem.key else ""
        return f"{self.file}{place}:{key} {problem.message}"


@dataclass(frozen=True)
class Document:
    """A YAML file as a plain tree, and where each of its values stands.

    Attributes:
        tree: The mapping that the file holds.
        marks: Line and column of every key and item.
        problems: What is wrong with the file already: keys that are duplicates or no words.
    """

    tree: dict[str, Any]
    marks: Mapping[Key, tuple[int, int]]
    problems: tuple[Problem, ...]

    def problem(self, key: Key, message: str) -> Problem:
        """A problem at `key`, placed at the nearest enclosing key that the file has."""
        place = key
        while place not in self.marks:
            place = place[:-1]
        # What the file does not have comes from a value that stands for a whole list or mapping.
        value: Any = self.tree
        for part in place:
            value = value[part]
        named = key if isinstance(value, dict) else place
        return Problem(*self.marks[place], dotted(named), message)


def dotted(key: Key) -> str:
    """`("network", "layers", 1)` as `network.layers[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def describe(value: Any) -> str:
    """A value as an error message shows it: short, and close to how YAML has it."""
    if isinstance(value, str):
        text = repr(value)
    else:
        text = re.sub(r'"(\w+)":', r"\1:", json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 60 else text[:57] + "..."


def unknown_key(name: str, known: Iterable[str]) -> str:
    """The message for a key that is not among the known ones."""
    expected = sorted(known)
    near = difflib.get_close_matches(name, expected, n=1)
    if near:
        return f"unknown key, did you mean {near[0]!r}?"
    return f"unknown key, expected {'one of ' * (len(expected) > 1)}{', '.join(expected)}"


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the implicit types of YAML 1.2's core schema alone."""


CoreLoader.yaml_implicit_resolvers = {}

_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)", list("tTfF")),
    "int": (r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", list("-+0123456789")),
    "float": (
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        list("-+.0123456789"),
    ),
}
for _name, (_pattern, _first) in _CORE.items():
    CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(rf"^{_pattern}\Z"), _first)


def _refusal(node: yaml.Node, message: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    kind = node.tag.removeprefix(_TAG)
    if kind in _CORE and not re.fullmatch(_CORE[kind][0], text):
        raise _refusal(node, f"the tag !!{kind} does not fit {describe(text)}")
    match kind:
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            return _integer(node)
        case "float":
            return float(re.sub(r"\.(?=[iInN])", "", text))
        case "str":
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise _refusal(node, "half of a surrogate pair is no character")
            return text
    raise _refusal(node, f"the tag {node.tag} is not allowed")


def _integer(node: yaml.ScalarNode) -> int:
    text: str = node.value
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    digits = text if base == 10 else text[2:]
    value = int(digits, base) if len(digits) < 30 else None
    if value is None or abs(value) >= 2**63:
        raise _refusal(node, f"{describe(text)} is beyond 64 bits")
    return value


class _Reader:
    """Turns YAML nodes into plain values and notes where each stands."""

    def __init__(self) -> None:
        self.marks: dict[Key, tuple[int, int]] = {(): (1, 1)}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, key: Key = ()) -> Any:
        # Aliases make a tree as large as they like from a few lines.
        if len(key) > MAX_DEPTH or len(self.marks) > MAX_VALUES:
            raise _refusal(node, f"more than {MAX_DEPTH} levels or {MAX_VALUES} values")
        mark = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.marks.setdefault(key, mark)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node)
        if node.tag not in (_TAG + "map", _TAG + "seq"):
            raise _refusal(node, f"the tag {node.tag} is not allowed")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        return [self.read(item, (*key, i)) for i, item in enumerate(node.value)]

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line, column = name_node.start_mark.line + 1, name_node.start_mark.column + 1
            name = name_node.value
            if not isinstance(name, str) or not name or not name.isprintable():
                message = f"found {describe(name)} as a key, expected a word"
                if not isinstance(name, str):
                    message = "found a list or a mapping as a key, expected a word"
                self.problems.append(Problem(line, column, dotted(key), message))
            elif name in found:
                message = f"duplicate key, first given on line {self.marks[*key, name][0]}"
                self.problems.append(Problem(line, column, dotted((*key, name)), message))
            else:
                self.marks[*key, name] = (line, column)
                found[name] = self.read(value_node, (*key, name))
        return found


def read_yaml(path: str | Path) -> Document:
    """Reads a YAML file that holds one mapping.

    Raises:
        ConfigError: The file is missing, unreadable, too large, empty, not YAML, or no mapping.
            Other problems are left in the document, to be reported with those of its values.
    """
    reader = _Reader()
    text = _read_text(path)
    try:
        node = yaml.compose(text, Loader=CoreLoader)
        tree = None if node is None else reader.read(node)
    except ReaderError as error:
        message = f"not readable as YAML: found the character {chr(error.character)!r}"
        raise ConfigError(path, [_at(text, error.position, message)]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        found = ", ".join(filter(None, (error.context, error.problem)))
        message = f"not readable as YAML: {found}"
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise ConfigError(path, [Problem(*place, "", message)]) from None
    except (ValueError, OverflowError):  # PyYAML's chr() of an escape such as "\UFFFFFFFF"
        message = "not readable as YAML: an escape that is no character"
        raise ConfigError(path, [Problem(0, 0, "", message)]) from None
    except RecursionError:
        raise ConfigError(path, [Problem(0, 0, "", "nested too deeply")]) from None
    if node is None:
        raise ConfigError(path, [Problem(0, 0, "", "found an empty file, expected a mapping")])
    if not isinstance(tree, dict):
        message = f"found {describe(tree)}, expected a mapping"
        raise ConfigError(path, [*reader.problems, Problem(1, 1, "", message)])
    return Document(tree, reader.marks, tuple(reader.problems))


def _read_text(path: str | Path) -> str:
    try:
        raw = read_bytes(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        found = (getattr(error, "strerror", None) or str(error)).lower()
        raise ConfigError(path, [Problem(0, 0, "", f"{found}, expected a YAML file")]) from None
    if len(raw) > MAX_BYTES:
        message = f"larger than {MAX_BYTES // 1024} KiB, expected a page of YAML"
        raise ConfigError(path, [Problem(0, 0, "", message)])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8")
        message = f"not readable as YAML: the byte 0x{raw[error.start]:02x} is not UTF-8"
        raise ConfigError(path, [_at(before, len(before), message)]) from None


def _at(text: str, position: int, message: str) -> Problem:
    """A problem with the character at `position`."""
    before = text[:position].splitlines() or [""]
    if text[:position].endswith(("\n", "\r")):
        before.append("")
    return Problem(len(before), len(before[-1]) + 1, "", message)
