"""When a study has to pause: its hours, and the signals that ask for it."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from micronet_search.store.files import read_json, write_json

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Signals that pause a study: Ctrl-C's, and that of `kill`, SLURM and a shutdown."""


class Clock:
    """Counts the hours of a study over all its starts, and listens for signals to pause.

    Attributes:
        is_interrupted: Whether a signal asked for a pause.
    """

    def __init__(self, file: Path | None, hours: float | None) -> None:
        """Reads what earlier starts took.

        Args:
            file: Where that is kept; None to keep it nowhere.
            hours: How many it may take in all; None for no limit.

        Raises:
            ValueError: The file is damaged.
        """
        self._file = file
        self._limit = None if hours is None else hours * 3600
        self._started = time.monotonic() - _seconds_spent(file)
        self.is_interrupted = False

    @property
    def seconds(self) -> float:
        """The time of the driver so far."""
        return time.monotonic() - self._started

    @property
    def seconds_left(self) -> float | None:
        """The time until the hours are up; None without a limit."""
        return None if self._limit is None else self._limit - self.seconds

    @property
    def must_pause(self) -> bool:
        """Whether the hours are up, or a signal came."""
        left = self.seconds_left
        return self.is_interrupted or (left is not None and left <= 0)

    def save(self) -> None:
        """Writes the time of the driver down."""
        if self._file is not None:
            write_json(self._file, {"seconds": self.seconds})

    @contextmanager
    def interruptible(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Has the first Ctrl-C or SIGTERM ask for a pause, and the second leave at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def pause(*_: object) -> None:
            self.is_interrupted = True
            for name in SIGNALS:
                signal.signal(name, signal.default_int_handler)
            with suppress(RuntimeError):  # it came in the middle of another line
                tell("pausing after this epoch; Ctrl-C again leaves at once")

        before = {name: signal.signal(name, pause) for name in SIGNALS}
        try:
            yield
        finally:
            for name, handler in before.items():
                signal.signal(name, handler)


def _seconds_spent(file: Path | None) -> float:
    if file is None or not file.exists():
        return 0.0
    match read_json(file):
        case {"seconds": int() | float() as seconds} if seconds >= 0:
            return float(seconds)
    raise ValueError(f"{file} is damaged, expected the seconds of a study")
