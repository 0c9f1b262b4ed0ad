"""Thousands of sweeps that are wrong in some way, and `check`: exit code 0 or 2, one clear error.

`MICRONET_FUZZ` says how many. A mutant's number in a message is all that makes it again.
"""

from __future__ import annotations

import contextlib
import io
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from limits import MUTANTS
from mutations import BASES, mutant

from micronet_search import cli
from micronet_search.report import check

CHUNK = 50
SECONDS = 20
MEBIBYTES = 512


class Ended(NamedTuple):
    """What a command left."""

    code: int
    err: str
    seconds: float


class TooSlowError(BaseException):
    """Not an `Exception`, which would be one of the command's own."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Of this process's own time, so that what else the machine does is no matter."""

    def ring(*_: object) -> None:
        raise TooSlowError

    before = signal.signal(signal.SIGVTALRM, ring)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def run_check(path: Path) -> Ended:
    """`micronet-search check`, in this process."""
    out, err, code = io.StringIO(), io.StringIO(), None
    begun = time.process_time()
    before, sys.argv = sys.argv, ["micronet-search", "check", str(path)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), time_limit(SECONDS):
            cli.main()
    except SystemExit as exit:
        code = exit.code
    finally:
        sys.argv = before
    return Ended(int(code or 0), err.getvalue(), time.process_time() - begun)


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A few draws of each space find what all of them do, in other mutants."""
    monkeypatch.setattr(check, "DRAWS", 3)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` downloads nothing, whatever the dataset."""

    def refuse(*_: object) -> None:
        raise AssertionError("check went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("base", range(len(BASES)))
def test_the_bases_are_right_but_for_their_datasets(tmp_path: Path, base: int) -> None:
    (tmp_path / "sweep.yaml").write_text(BASES[base])
    done = run_check(tmp_path / "sweep.yaml")
    assert done.code == 0 or "nowhere is no folder" in done.err, done.err


@pytest.mark.parametrize("first", range(0, MUTANTS, CHUNK))
def test_check_refuses_in_words_whatever_a_sweep_holds(tmp_path: Path, first: int) -> None:
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    path, times = tmp_path / "sweep.yaml", {}
    for number in range(first, min(first + CHUNK, MUTANTS)):
        path.write_bytes(mutant(number))
        try:
            done = run_check(path)
        except (Exception, TooSlowError) as error:
            raise AssertionError(f"mutant {number}: {type(error).__name__}: {error}") from error
        times[number] = done.seconds
        assert done.code in (0, 2), f"mutant {number}: {done}"
        assert "Traceback" not in done.err, f"mutant {number}: {done}"
        if done.code == 2:
            assert done.err.startswith("error: "), f"mutant {number}: {done}"
            assert len(done.err) > len("error: \n"), f"mutant {number}: {done}"
    slowest = max(times, key=lambda number: times[number])
    print(f"mutant {slowest} is the slowest: {times[slowest]:.1f} s")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) // 1024
    assert grown < MEBIBYTES, f"mutants {first} to {first + CHUNK}: {grown} MiB"
    assert [path.name for path in tmp_path.iterdir()] == ["sweep.yaml"], "check writes nothing"
