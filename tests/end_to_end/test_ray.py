"""Several trials at once, on Ray: slots, drivers and nodes that die, and nodes that join.

`MICRONET_KILLS` says how many of each kind are killed, each at another seeded moment.
"""

import os
import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import studies
import yaml
from studies import (
    Command,
    Done,
    Hold,
    Watch,
    alive,
    assert_whole,
    cli,
    processes,
    read,
    tiny,
    write,
)

pytest.importorskip("ray")

KILLS = int(os.environ.get("MICRONET_KILLS", "1"))


def sweep(folder: Path, **execution: Any) -> Path:
    """Trials until it is stopped, with rungs after epochs 2, 4 and 8."""
    tree = tiny(
        "ray",
        candidate__training__epochs=12,
        search__trials=studies.ENDLESS,
        search__early_stopping={"rule": "asha", "first_rung": 2, "reduction": 2},
        execution={"engine": "ray"} | execution,
    )
    return write(folder / "sweep.yaml", tree)


def finish(command: Command) -> Done:
    done = command.wait()
    assert done.code == 0, done
    return done


def finish_with_two_more(path: Path, runs: Path) -> studies.Left:
    """Resumes a study that was broken off, up to a total that is soon reached."""
    total = len(studies.outcomes(runs, "ray")) + 2
    finish(Command("run", path, "--root", runs, "--trials", total, cwd=path.parent))
    left = read(runs, "ray")
    assert_whole(left, trials=total)
    return left


def at_once(left: studies.Left) -> int:
    """The most trials that were RUNNING in Optuna at any time."""
    times = [(t.datetime_start, t.datetime_complete) for t in left.optuna]
    return max(sum(start <= now < end for start, end in times) for now, _ in times)


def is_ready(command: Command, count: int) -> bool:
    return command.until(lambda: command.out.count(" is ready") >= count)


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_slot_and_a_driver_that_are_killed(tmp_path: Path, runs: Path, seed: int) -> None:
    pick = random.Random(seed)
    path = sweep(tmp_path, engine="auto", trials_per_device=2, retries=3)
    watch = Watch(studies.Root(runs).study("ray"))
    command = Command("run", path, "--root", runs, cwd=tmp_path)
    assert is_ready(command, 2)
    assert "engine ray: 2 slots for each device (cpu)" in command.out
    time.sleep(pick.uniform(0, 2))
    watch.look()
    os.kill(pick.choice(processes(command.pid)["slot"]), signal.SIGKILL)
    assert command.until(lambda: re.search(r"the slot died|the slots died", command.out))
    time.sleep(pick.uniform(0, 3))
    cluster = alive(command.pid)
    command.send(signal.SIGKILL)
    assert command.wait().code == -signal.SIGKILL
    end = time.monotonic() + studies.PATIENCE
    while left_over := cluster & alive():
        assert time.monotonic() < end, left_over
        time.sleep(0.1)
    watch.look()
    left = finish_with_two_more(path, runs)
    watch.check(left)
    assert at_once(left) == 2


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Any]:
    """Ray's own test cluster, with a head that runs no trials."""
    from ray.cluster_utils import Cluster

    with studies.in_folder(tmp_path):
        made = Cluster(True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        yield made
        made.shutdown()


@pytest.mark.parametrize("seed", range(KILLS))
def test_nodes_that_join_and_are_killed(
    tmp_path: Path, runs: Path, cluster: Any, seed: int
) -> None:
    """One node begins, another joins, the first is killed with its trial, which goes on."""
    pick = random.Random(seed)
    first, go = cluster.add_node(num_cpus=1), tmp_path / "go"
    path = sweep(tmp_path, address=cluster.address, retries=0)
    watch = Watch(studies.Root(runs).study("ray"))
    # the driver waits at a rung of the first trial, and the slot for the driver
    hold = Hold("micronet_search.study.rungs:Rungs.order", pick.choice([1, 2, 3]), go)
    command = Command("run", path, "--root", runs, "--trials", 4, cwd=tmp_path, kill=hold)
    assert is_ready(command, 1)
    assert command.until(hold.reached.exists)
    cluster.add_node(num_cpus=1)
    watch.look()
    cluster.remove_node(first, allow_graceful=False)
    go.touch()
    done = finish(command)
    assert "left; it goes on from its checkpoint" in done.out
    left = read(runs, "ray")
    assert_whole(left, trials=4)
    watch.check(left)
    assert "failed" not in {outcome.state for outcome in left.outcomes.values()}


def test_a_cluster_that_is_not_there(tmp_path: Path, runs: Path) -> None:
    path = sweep(tmp_path, address="127.0.0.1:1")
    found = cli("run", path, "--root", runs, cwd=tmp_path).error
    assert "execution.address: found no Ray cluster at 127.0.0.1:1" in found


def test_students_in_several_slots_wait_for_one_teacher(tmp_path: Path, runs: Path) -> None:
    path = sweep(tmp_path, trials_per_device=2)
    tree = yaml.safe_load(path.read_text())
    network = {"family": "resnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1}
    teacher = {"network": network, "training": {"epochs": 12, "learning_rate": 0.01}}
    tree["candidate"]["distillation"] = {"teacher": teacher}
    tree["search"] |= {"trials": 3, "early_stopping": "off"}
    done = finish(Command("run", write(path, tree), "--root", runs, cwd=tmp_path))
    assert done.out.count("waits for its teacher to be trained") == 2
    assert done.out.count("teacher ") >= 1
    assert len(list((runs / "teachers").iterdir())) == 1
    assert_whole(read(runs, "ray"), trials=3)
