"""A bound on the time and the memory that a test takes in its own process."""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def within(seconds: float, megabytes: int) -> Iterator[None]:
    """Fails where more processor time passes, or the most memory so far grows by more."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    yield
    assert time.process_time() - begun < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < megabytes * 1024
