"""What pydantic finds wrong with a tree, in words for the user who wrote the file."""

from __future__ import annotations

import re
import types
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from micronet_search.config.loading import Key, describe, unknown_key

MAX_PROBLEMS = 100
"""More than anyone reads at once."""

_TYPES = {
    "tuple": "a list",
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
}


def validation_problems(error: ValidationError, model: type[BaseModel]) -> list[tuple[Key, str]]:
    """What pydantic found wrong, as (key, "found ..., expected ...") pairs.

    The keys are those of the file: what pydantic adds for the branch of a union is left out.
    """
    found = error.errors(include_url=False)[:MAX_PROBLEMS]
    return [(_walk(model, item["loc"])[1], _message(item, model)) for item in found]


def _message(item: ErrorDetails, model: type[BaseModel]) -> str:
    key, kind = item["loc"], item["type"]
    if kind == "extra_forbidden":
        return unknown_key(str(key[-1]), _model_at(model, key[:-1]).model_fields)
    if kind == "missing":
        return "missing, and it has no default"
    if kind == "value_error":
        return item["msg"].removeprefix("Value error, ")
    if kind == "union_tag_not_found":
        tag = item["ctx"]["discriminator"]
        return f"found no {tag}, expected one to tell which kind this is"
    if kind == "union_tag_invalid":
        found, expected = item["ctx"]["tag"], item["ctx"]["expected_tags"]
        return f"found {describe(found)}, expected one of {expected}"
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
    """The annotations one step down from `annotation`, and whether `part` is a key of the file."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _step(get_args(annotation)[0], part)
    if origin in (Union, types.UnionType):
        members = [a for a in get_args(annotation) if a is not type(None)]
        if len(members) > 1:  # pydantic names the member that it took
            for member in members:
                fields = getattr(member, "model_fields", {})
                if any(part in get_args(field.annotation) for field in fields.values()):
                    return [member], False
        return [step for member in members for step in _step(member, part)[0]], True
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        field = annotation.model_fields.get(str(part))
        return ([field.annotation] if field else []), True
    if origin in (tuple, list, dict):
        return [a for a in get_args(annotation) if a is not Ellipsis][-1:], True
    return [], True


def _walk(model: type[BaseModel], key: Key) -> tuple[list[Any], Key]:
    """What the value at `key` is read as, and `key` as it is in the file."""
    annotations: list[Any] = [model]
    kept: list[str | int] = []
    for part in key:
        steps = [_step(annotation, part) for annotation in annotations]
        annotations = [found for step, _ in steps for found in step]
        if all(is_key for _, is_key in steps):
            kept.append(part)
    return annotations, tuple(kept)


def _model_at(model: type[BaseModel], key: Key) -> type[BaseModel]:
    """The model that the value at `key` is read as."""
    pending = list(_walk(model, key)[0])
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        pending.extend(get_args(annotation))
    raise AssertionError(f"no model at {key}")
