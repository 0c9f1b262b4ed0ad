"""Ends what is left of a Ray cluster when the driver that made it is killed.

The kernel ends the processes that the driver has started. The agents that Ray's node has started
are not among them: they wait for a minute for an answer from the cluster that is gone.

This file is also the program of the process that does it, and needs the standard library alone.
"""

from __future__ import annotations

import glob
import os
import re
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress

PASSES = 50
PAUSE = 0.2
"""Seconds between two passes over the processes."""


def start() -> subprocess.Popen[bytes]:
    """Starts the process, which waits until its standard input is closed, by hand or by a kill."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is not meant for it
    )


def _main(driver: int) -> None:
    sys.stdin.buffer.read()
    for _ in range(PASSES):
        left = _processes(driver)
        if not left:
            return
        for pid in left:
            with suppress(OSError):  # it has just ended
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)


def _processes(driver: int) -> set[int]:
    """The processes that write files of the driver's Ray session, as all of its cluster's do."""
    session = re.compile(rf"/session_[^/]+_{driver}/")
    found = set()
    for file in glob.glob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):  # the file was closed, or its process has ended
            if os.lstat(file).st_mode & stat.S_IWUSR and session.search(os.readlink(file)):
                found.add(int(file.split("/")[2]))
    return found - {driver}


if __name__ == "__main__":
    _main(int(sys.argv[1]))
