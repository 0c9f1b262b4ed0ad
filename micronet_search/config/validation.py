"""Turns pydantic's errors into messages for the user who wrote the file."""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from micronet_search.config.loading import Key, describe

MAX_PROBLEMS = 100
"""The most problems that are reported."""

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
    return [(_key(item, model), _message(item, model)) for item in found[:MAX_PROBLEMS]]


def takes_fractions(model: type[BaseModel], key: Key) -> bool:
    """Whether the field of a model at a key of the file is a fraction, or one for each block."""
    found = [one for annotation in _walk(model, key)[0] for one in _members(annotation)]
    lists = [one for one in found if get_origin(one) is tuple]
    return float in (*found, *(one for each in lists for one in _members(get_args(each)[0])))


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


_TAGS = ("union_tag_not_found", "union_tag_invalid")


def _key(item: ErrorDetails, model: type[BaseModel]) -> Key:
    """Returns the key in the file."""
    key, kind = item["loc"], item["type"]
    if kind != "extra_forbidden" and key[-1:] == ("[key]",):  # pydantic's word for a mapping's key
        key = key[:-1]
    place = _walk(model, key)[1]
    return (*place, _tag(item)) if kind in _TAGS else place


def _tag(item: ErrorDetails) -> str:
    """Returns the key that tells which member of a union is meant."""
    return str(item["ctx"]["discriminator"]).strip("'")


def _message(item: ErrorDetails, model: type[BaseModel]) -> str:
    key, kind = item["loc"], item["type"]
    if kind == "extra_forbidden":
        at = [one for found in _walk(model, key[:-1])[0] for one in _members(found)]
        return unknown_key(str(key[-1]), next(filter(_is_model, at)).model_fields)
    if kind == "missing":
        return "missing, and it has no default"
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    if kind in _TAGS:
        expected = _tags(_walk(model, key)[0], _tag(item))
        given = item["input"].get(_tag(item), ...)
        return f"{'missing' if given is ... else f'found {describe(given)}'}, expected {expected}"
    return f"found {describe(item['input'])}, expected {_expected(kind, item['msg'])}"


def _expected(kind: str, message: str) -> str:
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return "a mapping"
    if kind == "int_from_float":
        return "a whole number"
    expected = re.sub(r"^\w+ should (be |have )?(a valid )?", "", message)
    expected = re.sub(r"^(greater|less) than", r"a number \1 than", expected)
    expected = re.sub(r" after validation, not \d+$", "", expected)
    return _TYPES.get(expected, expected)


def _step(annotation: Any, part: str | int) -> tuple[list[Any], bool]:
    """Returns the annotations one step down, and whether `part` is a key of the file."""
    members = _members(annotation)
    if len(members) > 1:  # pydantic names the member that it took
        for member in members:
            fields = getattr(member, "model_fields", {})
            if any(part in get_args(field.annotation) for field in fields.values()):
                return [member], False
        return [step for member in members for step in _step(member, part)[0]], True
    (annotation,) = members
    if _is_model(annotation):
        field = annotation.model_fields.get(str(part))
        return ([field.annotation] if field else []), True
    if get_origin(annotation) in (tuple, list, dict):
        return [a for a in get_args(annotation) if a is not Ellipsis][-1:], True
    return [], True


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _members(annotation: Any) -> list[Any]:
    """Returns the members of a union except None, or else the annotation itself."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _members(inner[0])
    if origin in (Union, types.UnionType):
        return [found for one in inner if one is not type(None) for found in _members(one)]
    return [annotation]


def _tags(annotations: Sequence[Any], name: str) -> str:
    """Returns the values that the field `name` of a union's members can have, in words."""
    members = [member for annotation in annotations for member in _members(annotation)]
    found = [repr(tag) for m in members for tag in get_args(m.model_fields[name].annotation)]
    return f"{', '.join(found[:-1])} or {found[-1]}"


def _walk(model: type[BaseModel], key: Key) -> tuple[list[Any], Key]:
    """Returns what the value at `key` is read as, and `key` as it is in the file."""
    annotations: list[Any] = [model]
    kept: list[str | int] = []
    for part in key:
        steps = [_step(annotation, part) for annotation in annotations]
        annotations = [found for step, _ in steps for found in step]
        if all(is_key for _, is_key in steps):
            kept.append(part)
    return annotations, tuple(kept)
