"""Several trials at once, on Ray: slots, drivers and nodes that die, and nodes that join."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import studies
from studies import Command, Done, assert_whole, read, tiny, write

pytest.importorskip("ray")

LONG = {
    "candidate__training__epochs": 12,
    "dataset": {"name": "digits", "validation": 300},
    "search__early_stopping": {"rule": "moasha", "first_rung": 2, "reduction": 2},
}


def slots() -> list[int]:
    """The processes that run trials."""
    command = ["pgrep", "-f", "ray::Member"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def finish(command: Command) -> Done:
    done = command.wait(240)
    assert done.code == 0, done
    return done


def at_once(left: studies.Left) -> int:
    """The most trials that were RUNNING in Optuna at any time."""
    times = [(t.datetime_start, t.datetime_complete) for t in left.optuna]
    return max(sum(start <= now < end for start, end in times) for now, _ in times)


def test_slots_and_drivers_that_are_killed(tmp_path: Path, runs: Path) -> None:
    """A slot dies, then the driver, and the same command finishes what they have left."""
    execution = {"engine": "auto", "trials_per_device": 2, "retries": 3}
    sweep = write(tmp_path / "sweep.yaml", tiny("ray", execution=execution, **LONG))
    folder = runs / "studies/ray/trials"
    run = ("run", sweep, "--root", runs, "--trials")
    command = Command(*run, 8, cwd=tmp_path)
    assert command.until(lambda: list(folder.glob("*/checkpoint.safetensors")), 200)
    victim = slots()[-1]
    os.kill(victim, signal.SIGKILL)
    assert command.until(lambda: "the slot died" in command.out, 60)
    assert command.until(lambda: len(list(folder.glob("*/outcome.json"))) >= 3, 200)
    command.send(signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    end = time.monotonic() + 60
    while slots():  # a dead driver's slots end with it
        assert time.monotonic() < end
        time.sleep(0.2)

    done = finish(Command(*run, 8, cwd=tmp_path))
    assert "engine ray: 2 slots for each device (cpu)" in done.out
    left = read(runs, "ray")
    assert_whole(left, trials=8)
    assert at_once(left) == 2
    assert "complete" in {outcome.state for outcome in left.outcomes.values()}


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[object]:
    """Ray's own test cluster, with a head that runs no trials."""
    from ray.cluster_utils import Cluster

    before = Path.cwd()
    os.chdir(tmp_path)
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    yield made
    made.shutdown()
    os.chdir(before)


def test_nodes_that_join_and_leave(tmp_path: Path, runs: Path, cluster: object) -> None:
    """One node begins, another joins, the first is killed with its trial, which goes on."""
    first = cluster.add_node(num_cpus=1)
    execution = {"engine": "ray", "address": cluster.address, "retries": 0}
    sweep = write(tmp_path / "sweep.yaml", tiny("nodes", execution=execution, **LONG))
    command = Command("run", sweep, "--root", runs, "--trials", 6, cwd=tmp_path)
    folder = runs / "studies/nodes/trials"
    assert command.until(lambda: list(folder.glob("*/checkpoint.safetensors")), 200)
    cluster.add_node(num_cpus=1)
    assert command.until(lambda: command.out.count(" is ready") == 2, 100)
    cluster.remove_node(first, allow_graceful=False)
    done = finish(command)
    assert " left" in done.out
    left = read(runs, "nodes")
    assert_whole(left, trials=6)
    assert "failed" not in {outcome.state for outcome in left.outcomes.values()}


def test_a_cluster_that_is_not_there(tmp_path: Path, runs: Path) -> None:
    execution = {"engine": "ray", "address": "127.0.0.1:1"}
    sweep = write(tmp_path / "sweep.yaml", tiny("nowhere", execution=execution))
    done = Command("run", sweep, "--root", runs, cwd=tmp_path).wait()
    assert "found no Ray cluster at 127.0.0.1:1" in done.error
