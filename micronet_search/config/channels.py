"""Numbers of channels, rounded to what a network can have. Configurations call them widths."""

from __future__ import annotations

from collections.abc import Sequence

MAX_WIDTH = 4096
DIVISOR = 8
"""EfficientNet's multiplied widths are multiples of this."""


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
