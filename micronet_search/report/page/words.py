"""Figures in words: percentages, times, counts, and short names of choices."""

import html
import json
from collections.abc import Iterable, Mapping
from typing import Any


def percent(share: float, digits: int = 2) -> str:
    """Returns a share, 0 to 1, as a percentage that is not broken into two lines."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def points(difference: float) -> str:
    """Returns the size of a difference of two shares in percentage points."""
    return f"{100 * abs(difference):.2f} points"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Returns a number with what it counts, which gets an s unless there is another plural."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def duration(seconds: float) -> str:
    """Returns a time in the unit that suits it."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"


def listed(words: Iterable[str], most: int = 6) -> str:
    """Returns words as a list in a sentence; those beyond the first few are counted."""
    found = list(words)
    if len(found) > most:
        found = [*found[: most - 1], f"{len(found) - most + 1} others"]
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"


def shown(value: Any) -> str:
    """Returns a chosen value as a person would write it."""
    if isinstance(value, float):
        return f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value)


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Returns the shortest ends of dotted paths that still tell them apart, by the path.

    The choice of a branch ends in `one_of`, which is left out.
    """
    parts = {path: path.removesuffix(".one_of").split(".") for path in paths}
    found = {}
    for path, own in parts.items():
        others = [other for name, other in parts.items() if name != path]
        for length in range(1, len(own) + 1):
            if all(other[-length:] != own[-length:] for other in others):
                break
        found[path] = ".".join(own[-length:])
    return found


def short(text: str, most: int = 22) -> str:
    """Returns a name that fits beside an axis, in HTML, without its beginning where it is long."""
    return html.escape(text if len(text) <= most else f"…{text[1 - most :]}")


def choice_lines(params: Mapping[str, Any], most: int) -> list[str]:
    """Returns the choices of a candidate, a line for each; those beyond so many are counted."""
    names = short_names(params)
    lines = [f"{names[path]}: {shown(value)}" for path, value in params.items()]
    return lines if len(lines) <= most else [*lines[:most], f"and {len(lines) - most} others"]
