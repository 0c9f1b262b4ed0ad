"""What every part of a sweep or a candidate is made of."""

import re
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from micronet_search.config.loading import describe


def whole_number(value: Any) -> Any:
    """Refuses true and 8.0 before they are taken for a literal 1 and 8."""
    if isinstance(value, bool | float):
        raise ValueError(f"found {describe(value)}, expected a whole number")
    return value


BY_NAME = BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)
"""Takes a name for the mapping that has this name and no options."""


def text_like(pattern: str, expected: str) -> AfterValidator:
    """Refuses text that does not match a pattern, which `expected` says in words."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"found {describe(text)}, expected {expected}")
        return text

    return AfterValidator(check)


_NAME = "at most 100 letters, digits, dots, dashes and underscores, a letter or digit first"
Name = Annotated[str, text_like(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", _NAME)]
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


class Model(BaseModel):
    """What every part of a sweep or a candidate is: frozen, with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def _settle(self, **values: Any) -> None:
        """Puts what is used in the place of what was asked for, while the model is validated."""
        for name, value in values.items():
            object.__setattr__(self, name, value)
