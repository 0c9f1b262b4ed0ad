"""How many mutants are tried, and what a test may take in its own process."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager

MUTANTS = int(os.environ.get("MICRONET_FUZZ", "200"))
"""How many mutants of a file are read; each follows from its number alone."""


@contextmanager
def within(seconds: float, megabytes: int) -> Iterator[None]:
    """Fails where more processor time passes, or the most memory so far grows by more."""
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.process_time()
    yield
    assert time.process_time() - begun < seconds
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < megabytes * 1024
