"""What all families of networks share: values for each block, and widths that are rounded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import GetJsonSchemaHandler, PlainSerializer, Strict, model_validator
from pydantic_core import CoreSchema

from micronet_search.config.model import JsonSchema, Model

MAX_WIDTH = 4096
DIVISOR = 8
"""EfficientNet's multiplied widths are multiples of this."""

Item = TypeVar("Item")


def _shortest(values: Sequence[Any]) -> Any:
    return values[0] if len(set(values)) == 1 else list(values)


_PER_BLOCK = PlainSerializer(_shortest)
PerBlock = Annotated[tuple[Item, ...], Strict(False), _PER_BLOCK]
"""A list with an entry for each block, or one number that serves all of them."""


class Family(Model):
    """A network of blocks.

    Attributes:
        family: The name of the family, which says which other keys there are.
        title: The family in words, for the model card.
        listed: The field whose list says how many blocks there are.
    """

    title: ClassVar[str]
    listed: ClassVar[str] = "widths"

    @classmethod
    def _per_block(cls) -> dict[str, Any]:
        """Returns the defaults of the fields with an entry for each block."""
        fields = cls.model_fields.items()
        return {name: field.default for name, field in fields if _PER_BLOCK in field.metadata}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        schema = super().__get_pydantic_json_schema__(core, handler)
        for name in cls._per_block():
            field = schema["properties"][name]
            said = {key: field.pop(key) for key in ("default", "description") if key in field}
            if "default" in said:
                said["default"] = said["default"][0]
            field.setdefault("minItems", 1)
            schema["properties"][name] = {"anyOf": [field["items"], field], **said}
        return schema

    @model_validator(mode="before")
    @classmethod
    def _one_number_serves_all_blocks(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        listed = value.get(cls.listed)
        # Where the list is wrong the others are not: one entry each, and it alone is refused.
        blocks = len(listed) if isinstance(listed, list | tuple) and listed else 1
        spread = {}
        for name, default in cls._per_block().items():
            if isinstance(value.get(name), int | float | str):
                spread[name] = [value[name]] * blocks
            elif name not in value and isinstance(default, tuple):
                spread[name] = list(default) * blocks
        return value | spread

    @model_validator(mode="after")
    def _one_entry_for_each_block(self) -> Family:
        for name in self._per_block():
            found = len(getattr(self, name))
            if found != self.blocks:
                lengths = f"{name} has {found} entries and {self.listed} {self.blocks}"
                raise ValueError(f"{lengths}, expected one for each block")
        return self

    @property
    def blocks(self) -> int:
        """Returns the number of blocks."""
        return len(getattr(self, self.listed))


def round_up(width: int, multiple: int) -> int:
    """Returns the smallest positive multiple of `multiple` that is not below `width`."""
    return max(1, -(-width // multiple)) * multiple


def round_within(width: int, multiple: int, bound: int = MAX_WIDTH) -> int:
    """Returns the width rounded up to a multiple, or down where the multiple is above the bound.

    Raises:
        ValueError: No multiple is within the bound.
    """
    if multiple > bound:
        raise ValueError(
            f"some width has to be a multiple of {multiple} for the groups that read it, expected "
            f"groups with a least common multiple of at most {bound}"
        )
    return min(round_up(width, multiple), bound // multiple * multiple)


def round_all(widths: Sequence[int], multiples: Sequence[int]) -> tuple[int, ...]:
    """Rounds each width as `round_within` does, to a multiple of its own."""
    pairs = zip(widths, multiples, strict=True)
    return tuple(round_within(width, multiple) for width, multiple in pairs)


def multiplied(width: int, factor: float) -> int:
    """Returns a width times a factor, as EfficientNet rounds it (Tan and Le, 2019).

    It is the nearest multiple of 8, or the next one where the nearest is more than 10 % too small.
    """
    if factor == 1.0 or width == 0:
        return width
    wanted = width * factor
    found = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    found += DIVISOR if found < 0.9 * wanted else 0
    return min(found, MAX_WIDTH)
