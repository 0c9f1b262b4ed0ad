"""Who owns a study: the one driver that runs it, and the folder that its MLflow run belongs to."""

import fcntl
import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock, Timeout

from micronet_search.store.files import read_json, write_json
from micronet_search.store.paths import StudyFolder


class StudyLockedError(ValueError):
    """Another driver runs the study."""


@contextmanager
def driver_lock(study: StudyFolder) -> Iterator[None]:
    """Holds a study's lock while the context lasts, or raises StudyLockedError.

    The operating system keeps the lock, so it is free as soon as its driver dies.
    """
    study.path.mkdir(parents=True, exist_ok=True)
    try:
        # `is_running` may hold it for an instant
        lock = FileLock(study.lock, thread_local=False).acquire(timeout=0.2, poll_interval=0.02)
    except Timeout:
        what = f"the study {study.path.name} is being run by {_holder(study)}"
        raise StudyLockedError(f"{what}; expected one driver at a time") from None
    with lock:
        # The holder has a file of its own: some versions of filelock empty the file that they lock.
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        write_json(study.holder, holder)
        try:
            yield
        finally:
            study.holder.unlink(missing_ok=True)


def is_running(study: StudyFolder) -> bool:
    """Returns whether a driver holds a study's lock; nothing is written."""
    try:
        file = os.open(study.lock, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _holder(study: StudyFolder) -> str:
    try:
        found = read_json(study.holder)
        started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(found["started"]))
        return f"process {found['pid']} on {found['host']} since {started}"
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError):
        # The other driver is just starting or ending, or its file is damaged.
        return "another process"


def study_id(study: StudyFolder) -> str:
    """Returns the id in `study.json`, which it creates if there is none.

    It tells a study apart from another one of the same name: one on the same server, or an earlier
    one whose folder was removed.
    """
    if not study.identity.exists():
        write_json(study.identity, {"id": uuid.uuid4().hex})
    match read_json(study.identity):
        case {"id": str(found)} if found.isalnum():
            return found
    raise ValueError(f"{study.identity} is damaged, expected the id of the study's run in MLflow")
