"""The commands. A user's error becomes one clear line and an exit code.

Heavy imports stand in the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys

from micronet_search.cli import searching, shipping, showing
from micronet_search.cli.common import FAILED_EXPORT, USER_ERROR, app
from micronet_search.report import explain
from micronet_search.runtime import ExportError

__all__ = ["main", "searching", "shipping", "showing"]


def main() -> None:
    """Runs the command line. An error of the user's becomes a line on stderr, without `--debug`."""
    # OpenMP reads this when PyTorch is imported. Where cores are busy, threads that wait for one
    # another and spin for longer than this take many times as long as a single thread.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except (ExportError, ValueError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(FAILED_EXPORT if isinstance(error, ExportError) else USER_ERROR)
