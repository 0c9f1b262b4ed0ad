"""Options of the command line in the place of a sweep's."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from micronet_search.config.sweep import Sweep
from micronet_search.config.validation import validation_problems


def override(sweep: Sweep, **changes: dict[str, Any]) -> Sweep:
    """Returns a sweep with other values of some options, validated as those of its file are.

    Args:
        sweep: The sweep as its file has it.
        changes: The options and their values, by the part of the sweep that has them, as in
            `search={"trials": 3}`. None keeps the value of the file.

    Raises:
        ValueError: A value is not valid; the message names the option as `--OPTION`.
    """
    for name, options in changes.items():
        part = getattr(sweep, name)
        given = {option: value for option, value in options.items() if value is not None}
        try:
            changed = type(part).model_validate(part.model_dump() | given)
        except ValidationError as error:
            ((key, message), *_) = validation_problems(error, type(part))
            option = f"--{key[0]}: " if key else ""
            raise ValueError(f"{option}{message}") from None
        sweep = sweep.model_copy(update={name: changed})
    return sweep
