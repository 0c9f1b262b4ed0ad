"""What every part of a sweep or a candidate is made of."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from micronet_search.config.loading import describe


def whole_number(value: Any) -> Any:
    """Refuses true and 8.0 before they are taken for a literal 1 and 8.

    Raises:
        ValueError: The value is no whole number.
    """
    if isinstance(value, bool | float):
        raise ValueError(f"found {describe(value)}, expected a whole number")
    return value


def _is_name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", text):
        expected = (
            "at most 100 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
        raise ValueError(f"found {describe(text)}, expected {expected}")
    return text


Name = Annotated[str, AfterValidator(_is_name)]
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
Counts = Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Strict(False)]
"""A list in a file."""


class Model(BaseModel):
    """What every part of a sweep or a candidate is: frozen, with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def _settle(self, **values: Any) -> None:
        """Puts what is used in the place of what was asked for, while the model is validated."""
        for name, value in values.items():
            object.__setattr__(self, name, value)
