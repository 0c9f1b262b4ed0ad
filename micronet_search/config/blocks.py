"""Lists with an entry for each block of a network, and one number that serves all blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from micronet_search.config.model import Model


def spread(value: Any, list_name: str, defaults: Mapping[str, Any]) -> Any:
    """A family's mapping with a list in the place of each one number that serves all blocks.

    Args:
        value: As in the file; anything but a mapping comes back as it is.
        list_name: The field whose list has an entry for each block.
        defaults: The fields to spread, and their values where they are missing; None leaves a
            missing one out.
    """
    if not isinstance(value, dict):
        return value
    listed = value.get(list_name)
    # Where the list is wrong the others are not: one entry each, and it alone is refused.
    blocks = len(listed) if isinstance(listed, list | tuple) and listed else 1
    given = {name: default for name, default in defaults.items() if default is not None}
    value = given | value
    for name in defaults:
        if isinstance(value.get(name), int | float | str):
            value[name] = [value[name]] * blocks
    return value


def unspread(values: Sequence[Any]) -> Any:
    """One number where it serves all blocks, or else the list."""
    return values[0] if len(set(values)) == 1 else list(values)


def check_lengths(network: Model, list_name: str, names: Sequence[str]) -> None:
    """Refuses lists that are not as long as the one that says how many blocks there are.

    Raises:
        ValueError: One of them is not.
    """
    blocks = len(getattr(network, list_name))
    for name in names:
        found = len(getattr(network, name))
        if found != blocks:
            raise ValueError(
                f"{name} has {found} entries and {list_name} {blocks}, expected one for each block"
            )
