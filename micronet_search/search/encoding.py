"""Turns values of a sweep's tree into parameters of Optuna, and back."""

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from micronet_search.config.distributions import Distribution, Pick, Range

Parameter = bool | int | float | str | None
Parameters = dict[str, Parameter]
"""What Optuna stores for a draw, by the dotted paths of its choices."""


def encode(distribution: Distribution, value: Any) -> Parameter:
    """Returns the Optuna parameter that stands for a value, or a branch's name.

    Optuna stores scalars alone. If one of some choices is a list or a mapping, all of them are
    written as compact JSON text, so that a parameter has one type.
    """
    if isinstance(distribution, Range):
        return on_grid(distribution, value)
    if _is_text(distribution):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    scalar: Parameter = value
    return scalar


def decode(distribution: Distribution, parameter: Parameter) -> Any:
    """Returns the value that an Optuna parameter stands for: the inverse of `encode`."""
    if isinstance(distribution, Range):
        assert isinstance(parameter, int | float)
        return on_grid(distribution, parameter)
    return json.loads(str(parameter)) if _is_text(distribution) else parameter


def pick_stored(parameters: Mapping[str, Parameter]) -> Pick:
    """Picks the values that the parameters of a whole draw stand for."""
    return lambda path, found: decode(found, parameters[path])


def _is_text(distribution: Distribution) -> bool:
    return any(isinstance(option, list | dict) for option in distribution.options())


def on_grid(distribution: Range, value: float) -> int | float:
    """Returns the value of the range nearest to `value`, without rounding noise.

    Steps are counted in decimals, as Optuna does: from 0.1 in steps of 0.1 the third value is 0.3
    and not 0.30000000000000004, whoever computed it, so that equal draws make equal candidates.
    """
    if distribution.whole:
        return int(value)
    if distribution.step is None:
        return float(value)
    steps = round((value - distribution.low) / distribution.step)
    return float(Decimal(str(distribution.low)) + steps * Decimal(str(distribution.step)))
