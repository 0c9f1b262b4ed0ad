"""What an ONNX file takes to run: a process that measures, and how it is asked.

The process imports NumPy and ONNX Runtime alone, so that its memory is theirs.
"""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from micronet_search.runtime import ExportError

ROUNDS, ROUND = 5, 0.02
"""So many rounds are timed, each of which takes so many seconds at least."""

SLOW = 5.0
"""A call that takes more seconds is timed once, so that large networks can be exported too."""

TIMEOUT = 1800.0


def probe(content: bytes, image: tuple[int, int, int], batches: tuple[int, ...]) -> dict[str, Any]:
    """Measures how ONNX Runtime runs a file on this machine, with one thread.

    Args:
        content: A file with a uint8 input `image`.
        image: Its channels, height and width.
        batches: The numbers of images of a batch, ascending.

    Returns:
        For each batch, its size as text: `latency_ms`, the milliseconds of one, by the fastest of
        some rounds, in processor time, which with one thread is the time where no other process
        wants the processor; and `memory_bytes`, by how much the process has grown at most since
        before the file was opened, None where the system does not tell it.

    Raises:
        ExportError: ONNX Runtime does not run the file.
    """
    asked = [sys.executable, "-m", __name__, *map(str, (*image, *batches))]
    place = Path(__file__).parents[2]  # where this package is found, installed or not
    # a group of its own: the Ctrl-C that pauses a study would end the measurement of its trial
    options: dict[str, Any] = {"timeout": TIMEOUT, "cwd": place, "process_group": 0}
    try:
        done = subprocess.run(asked, input=content, capture_output=True, check=True, **options)
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        reason = said.splitlines()[-1] if said else str(error)
        raise ExportError(f"ONNX Runtime could not be timed: {reason}") from None
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measures in this process: a file on standard input, the numbers as arguments."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a shutdown's, after which the study pauses

    import numpy as np
    import onnxruntime

    numbers = [int(text) for text in sys.argv[1:]]
    image, batches = numbers[:3], numbers[3:]
    content = sys.stdin.buffer.read()
    before = _memory("VmRSS")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    random, found = np.random.default_rng(0), dict[str, Any]()
    for batch in batches:
        images = random.integers(0, 256, (batch, *image), np.uint8)
        latency = _latency(partial(session.run, None, {"image": images}))
        after = _memory("VmHWM")
        grown = None if before is None or after is None else after - before
        found[str(batch)] = {"latency_ms": latency, "memory_bytes": grown}
    print(json.dumps(found))


def _latency(run: Callable[[], object]) -> float:
    """Returns the milliseconds that a call takes in the fastest round, after a first one."""
    run()
    calls = 1
    while (taken := _seconds(run, calls)) < ROUND:
        calls *= 2
    more = ROUNDS - 1 if taken <= SLOW else 0
    return 1000 * min([taken, *(_seconds(run, calls) for _ in range(more))]) / calls


def _seconds(run: Callable[[], object], calls: int) -> float:
    """Returns the processor time of some calls."""
    begun = time.process_time()
    for _ in range(calls):
        run()
    return time.process_time() - begun


def _memory(name: str) -> int | None:
    """Returns a figure of this process's memory in bytes, where the system tells it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    found = re.search(rf"^{name}:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
    return found and int(found[1]) * 1024


if __name__ == "__main__":
    main()
