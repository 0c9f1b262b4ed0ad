"""How the commands show errors."""

from __future__ import annotations

import sys


def explain(error: Exception) -> str:
    """Returns the message of an error, with the file if the operating system names one."""
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror.lower()}{place}"
    return str(error)


def warn(study: str, error: Exception) -> None:
    """Prints on stderr, in one line, that a study cannot be read, and why."""
    reason, *_ = explain(error).splitlines()
    print(f"warning: the study {study} is left out: {reason}", file=sys.stderr)
