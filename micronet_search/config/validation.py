"""Turns pydantic's errors into messages for the user who wrote the file."""

import difflib
import re
import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from micronet_search.config.loading import Key, describe

MAX_PROBLEMS = 100
"""The most problems that are reported."""

WORDS = {"one_of", "choices", "low", "high"}
"""The keys that make a mapping a distribution."""

_TAGS = ("union_tag_not_found", "union_tag_invalid")
_TYPES = {
    "tuple": "a list",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
}


def validation_problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Key, str]]:
    """Returns keys of the file and messages of the form "found ..., expected ...".

    The name of a union's member, which pydantic adds to a key, is left out.
    """
    found = [item for item in error.errors(include_url=False) if not _is_told_already(item)]
    return [_problem(item, model) for item in found[:MAX_PROBLEMS]]


def takes_fractions(model: type[BaseModel], key: Key) -> bool:
    """Whether the field of a model at a key of the file is a fraction, or one for each block."""
    found, _ = _walk(model, key)
    return float in found or float in [one for each in found for one in _below(each, 0)]


def unknown_key(name: str, known: Iterable[str]) -> str:
    """Returns the message for a key that is not among the known ones."""
    expected = sorted(known)
    near = difflib.get_close_matches(name, expected, n=1)
    if near:
        return f"unknown key, did you mean {near[0]!r}?"
    return f"unknown key, expected {'one of ' * (len(expected) > 1)}{', '.join(expected)}"


def _is_told_already(item: ErrorDetails) -> bool:
    """Whether a list is only too short because of items that are wrong themselves."""
    return item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"]


def _problem(item: ErrorDetails, model: type[BaseModel]) -> tuple[Key, str]:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        found, place = _walk(model, item["loc"][:-1])
        name = str(item["loc"][-1])
        known = next(fields for one in found if (fields := _fields(one)))
        return (*place, name), unknown_key(name, known)
    key = item["loc"]
    if key[-1:] == ("[key]",):  # pydantic's word for the key of a mapping
        key = key[:-1]
    found, place = _walk(model, key)
    if kind == "missing":
        return place, "missing, and it has no default"
    if kind == "value_error":
        return place, item["msg"].removeprefix("Value error, ")
    if kind in _TAGS:
        tag = item["ctx"]["discriminator"].strip("'")
        *others, last = (repr(value) for one in found for value in _values(one, tag))
        given = f"found {describe(value[tag])}" if tag in value else "missing"
        return (*place, tag), f"{given}, expected {', '.join(others)} or {last}"
    return place, f"found {describe(value)}, expected {_expected(kind, item['msg'])}{_hint(value)}"


def _expected(kind: str, message: str) -> str:
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "a mapping"
    if kind == "int_from_float":
        return "a whole number"
    expected = re.sub(r"^\w+ should (be |have )?(a valid )?", "", message)
    expected = re.sub(r"^(greater|less) than", r"a number \1 than", expected)
    expected = re.sub(r" after validation, not \d+$", "", expected)
    return _TYPES.get(expected, expected)


def _hint(value: Any) -> str:
    """Returns a hint if a key of `value` is almost one of a distribution, or else nothing."""
    for name in value if isinstance(value, dict) and not value.keys() & WORDS else ():
        for near in difflib.get_close_matches(name, WORDS, n=1):
            return f"; did you mean {near!r} for {name!r}?"
    return ""


def _walk(model: type[BaseModel], key: Key) -> tuple[list[Any], Key]:
    """Returns what the value at `key` is read as, and `key` as it is in the file."""
    found: list[Any] = [model]
    kept: list[str | int] = []
    for part in key:
        named = [one for one in found if any(part in _values(one, name) for name in _fields(one))]
        if len(found) > 1 and named:  # pydantic names the member of a union that it took
            found = named
        else:
            kept.append(part)
            found = [below for one in found for below in _below(one, part)]
    return found, tuple(kept)


def _below(annotation: Any, part: str | int) -> list[Any]:
    """Returns what the value at one key or index of a value is read as."""
    if field := _fields(annotation).get(str(part)):
        return _members(field.annotation)
    if get_origin(annotation) in (tuple, list, dict):
        return [one for item in get_args(annotation) if item is not ... for one in _members(item)]
    return []


def _fields(annotation: Any) -> Mapping[str, FieldInfo]:
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return annotation.model_fields if is_model else {}


def _values(annotation: Any, name: str) -> tuple[Any, ...]:
    """Returns the values that the field `name` of a union's member can have."""
    return get_args(annotation.model_fields[name].annotation)


def _members(annotation: Any) -> list[Any]:
    """Returns the members of a union except None, or else the annotation itself."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(inner[0])
    if origin in (Union, types.UnionType):
        return [found for one in inner if one is not type(None) for found in _members(one)]
    return [annotation]
