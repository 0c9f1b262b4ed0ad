"""A long study on two slots, one of whose processes is killed every twenty seconds."""

import os
import random
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
import studies
from studies import Command, Watch, assert_whole, processes, read, tiny, write

pytestmark = [pytest.mark.soak, pytest.mark.timeout(5400)]

TRIALS = int(os.environ.get("MICRONET_SOAK_TRIALS", "300"))
EVERY = 20.0


def test_random_kills_every_twenty_seconds(tmp_path: Path, runs: Path) -> None:
    pick = random.Random(0)
    tree = tiny(
        "soak",
        search__trials=TRIALS,
        search__sampler="tpe",
        search__early_stopping={
            "rule": ["asha", "feasibility"],
            "first_rung": 1,
            "reduction": 3,
        },
        execution={"engine": "ray", "trials_per_device": 2, "retries": 3},
    )
    sweep = write(tmp_path / "sweep.yaml", tree)
    watch = Watch(studies.Root(runs).study("soak"))
    killed: Counter[str] = Counter()
    starts, began = 0, time.monotonic()
    code: int | None = None
    while code != 0:
        starts += 1
        command = Command("run", sweep, "--root", runs, cwd=tmp_path)
        while command.running:
            end = time.monotonic() + EVERY
            while command.running and time.monotonic() < end:
                time.sleep(0.1)
            there = processes(command.pid)
            kind = pick.choice(sorted(kind for kind, pids in there.items() if pids) or ["driver"])
            if command.running and there[kind]:
                watch.look()
                with suppress(ProcessLookupError):  # it has just ended by itself
                    os.kill(pick.choice(there[kind]), signal.SIGKILL)
                    killed[kind] += 1
        done = command.wait()
        code = done.code
        # a driver whose node was killed says so, a killed one says nothing
        assert code in (0, -signal.SIGKILL) or "run the same command" in done.err, done
    seconds = time.monotonic() - began
    left = read(runs, "soak")
    assert_whole(left, trials=TRIALS)
    watch.check(left)
    states = Counter(outcome.state for outcome in left.outcomes.values())
    print(f"\n{TRIALS} trials in {seconds:.0f} s and {starts} starts; killed: {dict(killed)}")
    print(f"states: {dict(states)}; screened: {len(left.optuna) - TRIALS}")
