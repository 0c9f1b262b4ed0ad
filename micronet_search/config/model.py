"""What every part of a sweep or a candidate is made of."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    Strict,
)
from pydantic_core import CoreSchema, core_schema

from micronet_search.config.loading import describe
from micronet_search.config.meanings import intro, meanings

JsonSchema = dict[str, Any]


def whole_number(value: Any) -> Any:
    """Refuses true and 8.0 before they are taken for a literal 1 and 8."""
    if isinstance(value, bool | float):
        raise ValueError(f"found {describe(value)}, expected a whole number")
    return value


class _ByName(BeforeValidator):
    """Says in the JSON schema that the names alone can be written."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        union = handler(core)
        return {"anyOf": [union, {"enum": list(union["discriminator"]["mapping"])}]}


BY_NAME = _ByName(lambda value: {"name": value} if isinstance(value, str) else value)
"""Takes a name for the mapping that has this name and no options."""


@dataclass(frozen=True)
class TextLike:
    """Refuses text that does not match a pattern, which `expected` says in words."""

    pattern: str
    expected: str

    def _check(self, text: str) -> str:
        if not re.fullmatch(self.pattern, text):
            raise ValueError(f"found {describe(text)}, expected {self.expected}")
        return text

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        # Editors show the second one in the place of the first.
        words = {"patternErrorMessage": f"expected {self.expected}"}
        return handler(core) | {"pattern": f"^(?:{self.pattern})$"} | words


_NAME = "at most 100 letters, digits, dots, dashes and underscores, a letter or digit first"
Name = Annotated[str, TextLike(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", _NAME)]
"""A study's name, which also names its folder."""

Bits = Annotated[Literal[2, 3, 4, 5, 6, 7, 8, 16, 32], BeforeValidator(whole_number)]
"""The widths of an activation: integers, half precision (16), single precision (32)."""
WeightBits = Annotated[Literal[1, 2, 3, 4, 5, 6, 7, 8, 16, 32], BeforeValidator(whole_number)]
"""The widths of a weight: a sign (1), or those of an activation."""

INTEGER = 8
"""The widest integer; wider values are half (16) or single (32) precision."""

PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]
NotNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0.0)]

Item = TypeVar("Item")
Listed = Annotated[tuple[Item, ...], Strict(False)]
"""A list in a file."""


def either(*given: str, but_not: Sequence[str] = ()) -> JsonSchema:
    """Returns the JSON schema of a mapping that has some fields and lacks others."""
    some = {name: {"not": {"type": "null"}} for name in given}
    none = {name: {"type": "null"} for name in but_not}
    return {"required": list(given), "properties": some | none}


def or_alone(schema: JsonSchema, name: str) -> JsonSchema:
    """Returns the JSON schema of a mapping for which the value of one field can be written."""
    field: JsonSchema = schema["properties"][name]
    value = {key: part for key, part in field.items() if key not in ("description", "default")}
    return {"description": schema.pop("description"), "anyOf": [schema, value]}


class Model(BaseModel):
    """What every part of a sweep or a candidate is: frozen, with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        """Describes the fields in the words of the docstring."""
        schema = handler.resolve_ref_schema(handler(core))
        schema["description"] = intro(cls)
        schema.pop("title")
        said = meanings(cls)
        for name, field in schema.get("properties", {}).items():
            field.pop("title", None)
            if name in said:
                field["description"] = said[name]
        return schema

    def _settle(self, **values: Any) -> None:
        """Puts what is used in the place of what was asked for, while the model is validated."""
        for name, value in values.items():
            object.__setattr__(self, name, value)
