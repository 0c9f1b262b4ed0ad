"""Reads files that may be anything."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def read_bytes(path: str | Path, at_most: int) -> bytes:
    """Returns the content of a file, cut off one byte after `at_most`.

    Raises:
        OSError: There is no such file, or it is a pipe or a device, which may never end.
    """
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # a folder has an error of its own
        raise OSError(0, "is no regular file", str(path))
    with open(path, "rb") as file:
        return file.read(at_most + 1)
