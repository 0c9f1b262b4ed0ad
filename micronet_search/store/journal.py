"""Repairs Optuna's journal after a crash, under the driver's lock and before Optuna opens it."""

import json
import os
from pathlib import Path


def cut_to_last_whole_line(path: Path) -> int:
    """Cuts a damaged end off Optuna's journal, and removes the lock that a dead process left.

    Optuna appends one JSON line at a time, and acknowledges it once it is whole. A crash or a full
    disk can cut the last line short; a line appended to such a rest makes the journal unreadable.
    Returns the number of bytes cut, 0 if the journal is whole or does not exist.
    """
    # Optuna would wait half a minute for a dead process's `NAME.lock` or `NAME.lock*.rename` (as in
    # `optuna.storages.journal._file`). These are often dangling links, so they are never followed.
    for lock in path.parent.glob(f"{path.name}.lock*"):
        if lock.suffix in (".lock", ".rename"):
            lock.unlink()
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    last_line = content.rfind(b"\n", 0, max(whole - 1, 0)) + 1
    try:
        json.loads(content[last_line:whole])
    except ValueError:
        whole = last_line
    if whole < len(content):
        with open(path, "r+b") as file:
            file.truncate(whole)
            os.fsync(file.fileno())
    return len(content) - whole
