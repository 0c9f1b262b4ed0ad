"""Reads YAML files into plain trees, and says where in the file a problem is.

Scalars are those of YAML 1.2's core schema (`1e-3` is a number, `off` a string). A duplicate key is
an error.
"""

import json
import os
import re
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.reader import ReaderError

Key = tuple[str | int, ...]
"""The path of a value in a tree: mapping keys and list indices from the root."""

# A sweep is a page of text. What is larger is a mistake, and PyYAML takes seconds for it.
MAX_BYTES = 64 * 1024
MAX_DEPTH = 40
MAX_VALUES = 2_000
MAX_LINES = 100
"""The most problems that an error shows."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a file: where it is, what was found and what was expected.

    Lines and columns count from 1, and are 0 where none is to blame. The dotted key is empty for
    the file as a whole.
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
        lines = []
        for found in self.problems[:MAX_LINES]:
            place = f":{found.line}:{found.column}" if found.line else ""
            key = f" {found.key}:" if found.key else ""
            lines.append(f"{file}{place}:{key} {found.message}")
        if len(self.problems) > MAX_LINES:
            lines.append(f"{file}: and {len(self.problems) - MAX_LINES} more problems")
        super().__init__("\n".join(lines))


def dotted(key: Key) -> str:
    """Returns `("network", "layers", 1)` as `network.layers[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


def describe(value: Any) -> str:
    """Returns a value as an error message shows it: short, and close to how YAML has it."""
    dumped = json.dumps(value, ensure_ascii=False, default=str)
    text = repr(value) if isinstance(value, str) else re.sub(r'"(\w+)":', r"\1:", dumped)
    return text if len(text) <= 60 else text[:57] + "..."


def _whole(text: str) -> int:
    value = int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)) if len(text) <= 30 else 2**64
    if abs(value) >= 2**63:
        raise ValueError(f"{describe(text)} is beyond 64 bits")
    return value


def _text(text: str) -> str:
    if re.search("[\ud800-\udfff]", text):
        raise ValueError("half of a surrogate pair is no character")
    return text


_TAG = "tag:yaml.org,2002:"
_CORE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "null": (r"(?:~|null|Null|NULL|)", lambda text: None),
    "bool": (r"(?:true|True|TRUE|false|False|FALSE)", lambda text: text.lower() == "true"),
    "int": (r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)", _whole),
    "float": (
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))",
        lambda text: float(re.sub(r"\.(?=[iInN])", "", text)),
    ),
    "str": (r"(?s:.*)", _text),
}
"""The scalars: what their text looks like, and how it is read."""


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the scalars of YAML 1.2's core schema alone."""


CoreLoader.yaml_implicit_resolvers = {}
for _kind in ("null", "bool", "int", "float"):
    CoreLoader.add_implicit_resolver(_TAG + _kind, re.compile(rf"^{_CORE[_kind][0]}\Z"), None)


class Document:
    """A YAML file: its tree of plain values, and where in the file they are.

    `problems` are those with keys, to be reported together with those of the values.
    """

    def __init__(self, node: yaml.Node) -> None:
        self.problems: list[Problem] = []
        self._count = 0
        self._places: dict[Key, tuple[tuple[int, int], bool]] = {}
        self.tree = self._read(node, (), node)

    def problem(self, key: Key, message: str) -> Problem:
        """Returns a problem at `key`, placed at the nearest enclosing key that the file has."""
        depth = max(end for end in range(len(key) + 1) if key[:end] in self._places)
        place, is_mapping = self._places[key[:depth]]
        # A key below a scalar or a list comes from a value that stands for a whole mapping.
        named = key if is_mapping else key[:depth]
        return Problem(*(place if depth else (1, 1)), dotted(named), message)

    def _read(self, node: yaml.Node, key: Key, start: yaml.Node) -> Any:
        self._count += 1
        self._places[key] = _place(start), isinstance(node, yaml.MappingNode)
        # Aliases make a tree as large as they like from a few lines.
        if len(key) > MAX_DEPTH or self._count > MAX_VALUES:
            raise _refusal(node, f"more than {MAX_DEPTH} levels or {MAX_VALUES} values")
        match node.tag.removeprefix(_TAG), node:
            case "map", yaml.MappingNode():
                return self._read_mapping(node, key)
            case "seq", yaml.SequenceNode():
                return [self._read(item, (*key, i), item) for i, item in enumerate(node.value)]
            case kind, yaml.ScalarNode(value=text) if kind in _CORE:
                pattern, read = _CORE[kind]
                if not re.fullmatch(pattern, text):
                    raise _refusal(node, f"the tag !!{kind} does not fit {describe(text)}")
                try:
                    return read(text)
                except ValueError as error:
                    raise _refusal(node, str(error)) from None
        raise _refusal(node, f"the tag {node.tag} is not allowed")

    def _read_mapping(self, node: yaml.Node, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for name_node, value in node.value:
            name, place = name_node.value, _place(name_node)
            if not isinstance(name, str) or not name or not name.isprintable():
                shown = describe(name) if isinstance(name, str) else "a list or a mapping"
                message = f"found {shown} as a key, expected a word"
                self.problems.append(Problem(*place, dotted(key), message))
            elif name in found:
                message = f"duplicate key, first given on line {lines[name]}"
                self.problems.append(Problem(*place, dotted((*key, name)), message))
            else:
                lines[name], found[name] = place[0], self._read(value, (*key, name), name_node)
        return found


def _place(node: yaml.Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _refusal(node: yaml.Node, message: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=message, problem_mark=node.start_mark)


def read_yaml(path: str | Path) -> Document:
    """Reads a YAML file that holds one mapping.

    Raises:
        ConfigError: The file is missing, unreadable, too large, empty, not YAML, or no mapping.
            Problems with keys are left in the document.
    """
    try:
        raw = read_bytes(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        found = getattr(error, "strerror", None) or str(error)
        message = f"{found[:1].lower()}{found[1:]}, expected a YAML file"
        raise ConfigError(path, [Problem(0, 0, "", message)]) from None
    if len(raw) > MAX_BYTES:
        message = f"larger than {MAX_BYTES // 1024} KiB, expected a YAML file"
        raise ConfigError(path, [Problem(0, 0, "", message)])
    text = raw.decode("utf-8", "surrogateescape")  # PyYAML then names the first wrong byte
    try:
        node = yaml.compose(text, Loader=CoreLoader)
        document = Document(node) if node else None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ConfigError(path, [_refused(error, text)]) from None
    if document is None:
        raise ConfigError(path, [Problem(0, 0, "", "found an empty file, expected a mapping")])
    if not isinstance(document.tree, dict):
        message = f"found {describe(document.tree)}, expected a mapping"
        raise ConfigError(path, [*document.problems, Problem(1, 1, "", message)])
    return document


def _refused(error: Exception, text: str) -> Problem:
    """Returns why PyYAML could not read a text."""
    place, found = (0, 0), "an escape that is no character"
    if isinstance(error, RecursionError):
        return Problem(0, 0, "", "nested too deeply")
    if isinstance(error, ReaderError):
        code, before = error.character, f"{text[: error.position]}|".splitlines()
        place, found = (len(before), len(before[-1])), f"found the character {chr(code)!r}"
        if 0xDC80 <= code <= 0xDCFF:
            found = f"the byte 0x{code - 0xDC00:02x} is not UTF-8"
    elif isinstance(error, yaml.MarkedYAMLError):
        if mark := error.problem_mark or error.context_mark:
            place = mark.line + 1, mark.column + 1
        found = ", ".join(filter(None, (error.context, error.problem)))
    return Problem(*place, "", f"not readable as YAML: {found}")


def read_bytes(path: str | Path, at_most: int) -> bytes:
    """Returns the content of a file, cut off one byte after `at_most`.

    Raises:
        OSError: There is no such file, or it is a pipe or a device, which may never end.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise OSError(0, "is no regular file", str(path))
    with open(path, "rb") as file:
        return file.read(at_most + 1)
