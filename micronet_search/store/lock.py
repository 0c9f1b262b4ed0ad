"""One driver per study."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from micronet_search.store.files import read_json, write_json
from micronet_search.store.paths import StudyFolder


class StudyLockedError(ValueError):
    """Another driver runs the study."""


@contextmanager
def driver_lock(study: StudyFolder) -> Iterator[None]:
    """Holds a study's lock for as long as the context lasts.

    The operating system keeps the lock, so a dead driver's is free at once.

    Raises:
        StudyLockedError: Another driver holds it; the message names its host and process.
    """
    study.path.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(study.lock, thread_local=False).acquire(timeout=0)
    except Timeout:
        raise StudyLockedError(_refusal(study)) from None
    with lock:
        # Beside the lock and not in it: some versions of filelock empty the file they try to lock.
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        write_json(study.holder, holder)
        try:
            yield
        finally:
            study.holder.unlink(missing_ok=True)


def _refusal(study: StudyFolder) -> str:
    return (
        f"the study {study.path.name} is being run by {_holder(study.holder)}; "
        "expected one driver at a time"
    )


def _holder(path: Path) -> str:
    try:
        found = read_json(path)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["started"]))
        return f"process {found['pid']} on {found['host']} since {started}"
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        # it is just starting or ending, or the file is damaged
        return "another process"
