"""Ends what is left of a Ray cluster when the driver that made it is killed.

The kernel ends the processes that the driver started, but not the agents that Ray's node started:
they wait a minute for an answer from the cluster that is gone. This file is also the program of the
process that ends them, so it imports the standard library alone.
"""

import glob
import os
import re
import signal
import stat
import subprocess
import sys
import time
from contextlib import suppress

PASSES = 50  # over the processes
PAUSE = 0.2  # seconds between two of them


def start() -> subprocess.Popen[bytes]:
    """Starts the process, which waits until its standard input is closed, for example by a kill."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", __file__, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # so that Ctrl-C does not reach it
    )


def _main(driver: int) -> None:
    sys.stdin.buffer.read()
    for _ in range(PASSES):
        left = _processes(driver)
        if not left:
            return
        for pid in left:
            with suppress(OSError):  # the process has just ended
                os.kill(pid, signal.SIGKILL)
        time.sleep(PAUSE)


def _processes(driver: int) -> set[int]:
    """Returns the processes of the driver's cluster: those that write files of its Ray session."""
    session = re.compile(rf"/session_[^/]+_{driver}/")
    found = set()
    for file in glob.glob("/proc/[0-9]*/fd/*"):
        with suppress(OSError):  # the file was closed, or its process has ended
            if os.lstat(file).st_mode & stat.S_IWUSR and session.search(os.readlink(file)):
                found.add(int(file.split("/")[2]))
    return found - {driver}


if __name__ == "__main__":
    _main(int(sys.argv[1]))
