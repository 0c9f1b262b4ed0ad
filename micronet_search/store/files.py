"""Files that are whole or absent, whatever happens while they are written."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from micronet_search.config.reading import read_bytes

MAX_JSON = 64 * 2**20
"""Bytes of a file: a hundred times a curve of ten thousand epochs is a third of it."""


def write_bytes(path: Path, content: bytes, private: bool = False) -> None:
    """Writes a file in one step; the folder is made where it is missing.

    A reader, and whoever comes after a crash, finds the old file or the new one.

    Args:
        path: The file.
        content: All of it.
        private: Whether only its owner may read it.

    Raises:
        OSError: The disk is full, say; the old file stands and no other one is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The number of the process keeps two writers apart, and a killed one leaves one file at most.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        mode = 0o600 if private else 0o666
        with open(temporary, "wb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_text(path: Path, content: str, private: bool = False) -> None:
    """Writes a text in UTF-8, as `write_bytes` does."""
    write_bytes(path, content.encode(), private)


def write_json(path: Path, tree: Any) -> None:
    """Writes a plain tree, as `write_bytes` does.

    A loss that is not finite stands as Python's `NaN` or `Infinity`, which `read_json` reads.
    """
    write_text(path, json.dumps(tree, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads what `write_json` wrote.

    Raises:
        OSError: There is no such file, or it cannot be read.
        ValueError: The file is no JSON, or is too large.
    """
    content = read_bytes(path, MAX_JSON)
    if len(content) > MAX_JSON:
        raise ValueError(f"{path} is larger than {MAX_JSON // 2**20} MiB, expected a trial's JSON")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, expected JSON: {error}") from None


def _sync_folder(folder: Path) -> None:
    """Makes a new name in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
