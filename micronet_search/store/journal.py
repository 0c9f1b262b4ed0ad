"""Optuna's journal after a crash. Call these under the driver's lock, before Optuna opens it."""

from __future__ import annotations

import json
import os
from pathlib import Path


def cut_to_last_whole_line(path: Path) -> int:
    """Cuts a damaged end off Optuna's journal, and removes the lock that a dead process left.

    Optuna appends one JSON per line. A line cut short by a crash or a full disk was never
    acknowledged; once something is appended to it, Optuna cannot read the file any more. Whole
    lines are never touched.

    Returns:
        The number of bytes cut; 0 for a journal that is whole or does not exist.
    """
    _remove_lock(path)
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    last_line = content.rfind(b"\n", 0, max(whole - 1, 0)) + 1
    if not _is_json(content[last_line:whole]):
        whole = last_line
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    return len(content) - whole


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _remove_lock(path: Path) -> None:
    """Removes `NAME.lock` and `NAME.lock*.rename`, the names in `optuna.storages.journal._file`.

    Without this Optuna waits half a minute for the dead process. The lock is a symbolic link,
    often a dangling one, so nothing here may follow it.
    """
    lock = f"{path.name}.lock"
    if path.parent.is_dir():
        for name in os.listdir(path.parent):
            if name == lock or (name.startswith(lock) and name.endswith(".rename")):
                (path.parent / name).unlink()
