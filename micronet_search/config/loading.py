"""YAML files -> plain trees, with the position of every key, and errors that name it.

The scalars are those of YAML 1.2's core schema (`1e-3` is a number, `off` a string), read through
PyYAML's safe loader; a duplicate key is an error.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Key = tuple[str | int, ...]
"""The path of a value in a tree: mapping keys and list indices from the root."""

MAX_DEPTH = 40
MAX_NODES = 100_000


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
        super().__init__("\n".join(map(self._line, self.problems)))

    def _line(self, problem: Problem) -> str:
        place = f":{problem.line}:{problem.column}" if problem.line else ""
        key = f" {problem.key}:" if problem.key else ""
        return f"{self.file}{place}:{key} {problem.message}"


@dataclass(frozen=True)
class Document:
    """A YAML file as a plain tree, and where each of its values stands."""

    file: str
    tree: Any
    marks: Mapping[Key, tuple[int, int]]

    def problem(self, key: Key, message: str) -> Problem:
        """A problem at `key`, placed at the nearest enclosing key that the file has."""
        place: Key = key
        while place not in self.marks:
            place = place[:-1]
        return Problem(*self.marks[place], dotted(key), message)

    def error(self, key: Key, message: str) -> ConfigError:
        """A `ConfigError` with the one problem at `key`."""
        return ConfigError(self.file, [self.problem(key, message)])


def dotted(key: Key) -> str:
    """`("network", "layers", 1)` as `network.layers[1]`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key)
    return text.removeprefix(".")


class CoreLoader(yaml.SafeLoader):
    """PyYAML's safe loader with the implicit types of YAML 1.2's core schema alone."""


CoreLoader.yaml_implicit_resolvers = {}

_TAG = "tag:yaml.org,2002:"
for _name, _pattern, _first in [
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
]:
    CoreLoader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


def _scalar(node: yaml.ScalarNode) -> Any:
    text: str = node.value
    match node.tag.removeprefix(_TAG):
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            base = {"0o": 8, "0x": 16}.get(text[:2], 10)
            return int(text.replace("0o", "") if base == 8 else text, base)
        case "float":
            return float(re.sub(r"\.(?=[iInN])", "", text))
        case "str":
            return text
    raise yaml.MarkedYAMLError(None, None, f"the tag {node.tag} is not allowed", node.start_mark)


class _Reader:
    """Turns YAML nodes into plain values and notes where each stands."""

    def __init__(self) -> None:
        self.marks: dict[Key, tuple[int, int]] = {(): (1, 1)}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, key: Key = ()) -> Any:
        if len(key) > MAX_DEPTH or len(self.marks) > MAX_NODES:
            limit = f"{MAX_DEPTH} levels or {MAX_NODES} values"
            raise yaml.MarkedYAMLError(None, None, f"more than {limit}", node.start_mark)
        mark = (node.start_mark.line + 1, node.start_mark.column + 1)
        self.marks.setdefault(key, mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, key)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*key, i)) for i, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name_node, value_node in node.value:
            line, column = name_node.start_mark.line + 1, name_node.start_mark.column + 1
            if not isinstance(name_node, yaml.ScalarNode):
                self.problems.append(Problem(line, column, dotted(key), "a key must be a word"))
                continue
            name = str(name_node.value)
            if name in found:
                first = self.marks[*key, name][0]
                message = f"duplicate key, first given on line {first}"
                self.problems.append(Problem(line, column, dotted((*key, name)), message))
                continue
            self.marks[*key, name] = (line, column)
            found[name] = self.read(value_node, (*key, name))
        return found


def read_yaml(path: str | Path) -> Document:
    """Reads a YAML file that holds one mapping.

    Raises:
        ConfigError: The file is missing, unreadable, empty, not YAML, or no mapping.
    """
    reader = _Reader()
    try:
        text = Path(path).read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=CoreLoader)
        if node is None:
            raise ConfigError(path, [Problem(0, 0, "", "found an empty file, expected a mapping")])
        tree = reader.read(node)
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise ConfigError(path, [Problem(0, 0, "", f"{found}, expected a YAML file")]) from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(path, [_syntax_problem(error)]) from None
    except RecursionError:
        raise ConfigError(path, [Problem(0, 0, "", "nested too deeply")]) from None
    if reader.problems:
        raise ConfigError(path, reader.problems)
    if not isinstance(tree, dict):
        message = f"found {describe(tree)}, expected a mapping"
        raise ConfigError(path, [Problem(1, 1, "", message)])
    return Document(str(path), tree, reader.marks)


def _syntax_problem(error: Exception) -> Problem:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    text = str(getattr(error, "problem", None) or str(error).splitlines()[0])
    if mark is None:
        return Problem(0, 0, "", f"not readable as YAML: {text}")
    return Problem(mark.line + 1, mark.column + 1, "", f"not readable as YAML: {text}")


def describe(value: Any) -> str:
    """A value as an error message shows it: short, and as YAML would have it."""
    if isinstance(value, str):
        text = repr(value)
    else:
        style = {"default_flow_style": True, "width": 10_000, "sort_keys": False}
        text = yaml.safe_dump(value, **style).removesuffix("\n").removesuffix("\n...")
    return text if len(text) <= 60 else text[:57] + "..."


def validation_problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Key, str]]:
    """What pydantic found wrong, as (key, "found ..., expected ...") pairs.

    The keys are those of the file: what pydantic adds for the branch of a union is left out.
    """
    return [(_file_key(item["loc"], model), _message(item, model)) for item in error.errors()]


_TYPES = {
    "tuple": "a list",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
}


def _message(item: ErrorDetails, model: type[BaseModel]) -> str:
    key, kind = item["loc"], item["type"]
    if kind == "extra_forbidden":
        known = sorted(_model_at(model, key[:-1]).model_fields)
        near = difflib.get_close_matches(str(key[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"expected one of {', '.join(known)}"
        return f"unknown key, {hint}"
    if kind == "missing":
        return "missing, and it has no default"
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    if kind == "union_tag_not_found":
        tag = item["ctx"]["discriminator"]
        return f"found no {tag}, expected one to tell which kind this is"
    if kind == "union_tag_invalid":
        found, expected = item["ctx"]["tag"], item["ctx"]["expected_tags"]
        return f"found {found!r}, expected one of {expected}"
    expected = re.sub(r"^\w+ should (be |have )?(a valid )?", "", item["msg"])
    expected = re.sub(r"^(greater|less) than", r"a number \1 than", expected)
    expected = re.sub(r"^match pattern", "text that matches", expected)
    expected = re.sub(r"^(dictionary|an object|.*instance of .*)$", "a mapping", expected)
    return f"found {describe(item['input'])}, expected {_TYPES.get(expected, expected)}"


def _step(annotation: Any, part: str | int) -> tuple[list[Any], bool]:
    """The annotations one step down from `annotation`, and whether `part` is a key of the file."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _step(get_args(annotation)[0], part)
    if origin in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        for member in members:
            fields = getattr(member, "model_fields", {})
            if any(part in get_args(f.annotation) for f in fields.values()):
                return [member], False
        found = [step for member in members for step in _step(member, part)[0]]
        return found, True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return ([field.annotation] if field else []), True
    if origin in (tuple, list, dict):
        return [a for a in get_args(annotation) if a is not Ellipsis][-1:], True
    return [], True


def _walk(model: type[BaseModel], key: Key) -> tuple[list[Any], Key]:
    annotations: list[Any] = [model]
    kept: list[str | int] = []
    for part in key:
        steps = [_step(annotation, part) for annotation in annotations]
        annotations = [found for step, _ in steps for found in step]
        if all(is_key for _, is_key in steps):
            kept.append(part)
    return annotations, tuple(kept)


def _file_key(key: Key, model: type[BaseModel]) -> Key:
    return _walk(model, key)[1]


def _model_at(model: type[BaseModel], key: Key) -> type[BaseModel]:
    """The model that the value at `key` is read as."""
    pending = list(_walk(model, key)[0])
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        pending.extend(get_args(annotation))
    raise AssertionError(f"no model at {key}")
