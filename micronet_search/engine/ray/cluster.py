"""A Ray cluster as a driver sees it: its nodes, and the slots that each node can have."""

import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import torch
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from micronet_search.config.sweep import Dataset, Execution
from micronet_search.data.splits import load
from micronet_search.engine.ray import reaper
from micronet_search.engine.slot import Slot
from micronet_search.engine.work import Event, Job, Order

STORE = 256 * 2**20  # bytes of shared memory in a cluster of a study's own, for checkpoints
_ASIDE = "aside"  # the concurrency group of the calls that Ray makes in a second thread
_THREADS: dict[str, Any] = {"concurrency_groups": {_ASIDE: 1}}


class Member:
    """The actor that holds a slot in a process of its own.

    Ray makes its calls one after another in one thread, so the slot works on one job at a time. It
    calls `pause` in a second thread, while a job runs.
    """

    def open(self, dataset: Dataset, device: str, threads: int) -> str | None:
        """Creates the slot, or returns why this node cannot have one."""
        if dataset.root is not None and not Path(dataset.root).is_dir():
            return f"found no folder {dataset.root}, expected the dataset there on every node"
        try:
            self._slot = Slot(load(dataset), torch.device(device), threads)
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def begin(self, job: Job) -> Iterator[Event]:
        """Starts a job, and streams its events up to the first checkpoint or the end."""
        yield from self._slot.begin(job)

    def go_on(self, order: Order) -> Iterator[Event]:
        """Continues the job, and streams its events up to the next checkpoint or the end."""
        yield from self._slot.go_on(order)

    @ray.method(concurrency_group=_ASIDE)
    def pause(self) -> None:
        """Asks the job for a checkpoint after its epoch."""
        self._slot.pause()

    def clear(self) -> None:
        """Forgets the job."""
        self._slot.clear()


class Cluster:
    """The nodes of a Ray cluster, which may come and go; every slot is on `cuda`, or on `cpu`."""

    def __init__(self, execution: Execution, tell: Callable[[str], None]) -> None:
        """Connects to the cluster of the sweep, or makes one of this machine alone.

        It is a ValueError if there is no such cluster, or no such device in it.
        """
        self._execution, self._tell = execution, tell
        self._nodes: dict[str, dict[str, Any]] = {}
        self._names: dict[str, str] = {}
        self.refused: dict[str, str] = {}  # the nodes that are not used, and why
        self._reaper = reaper.start() if execution.address is None else None
        _connect(execution)
        wanted = execution.device
        has_gpu = any(node["Resources"].get("GPU", 0) >= 1 for node in alive().values())
        if wanted.startswith("cuda") and not has_gpu:
            raise ValueError(f"found no GPU in the Ray cluster, expected one for device: {wanted}")
        self.device = "cuda" if has_gpu and wanted != "cpu" else "cpu"

    def close(self) -> None:
        """Leaves the cluster, or ends it if it was made here."""
        ray.shutdown()
        if self._reaper is not None:
            self._reaper.communicate()

    def look(self) -> list[str]:
        """Asks Ray which nodes are there now, and tells which have left."""
        before, self._nodes = self._nodes, alive()
        for gone in before.keys() - self._nodes.keys():
            self._tell(f"node {self.name(gone)} left")
        for node, found in self._nodes.items():
            self._names[node] = found["NodeManagerAddress"]
        if not self._nodes and self._reaper is not None:
            what = "Ray's node on this machine has died"
            raise ValueError(f"{what}; run the same command to continue")
        return list(self._nodes)

    def name(self, node: str) -> str:
        """Returns what messages call a node: its address."""
        return self._names.get(node, node)

    def room(self, node: str) -> int:
        """Returns how many slots a node can have."""
        devices, share = self._devices(node)
        return 0 if node in self.refused else devices * share

    def make(self, node: str) -> tuple[Any, dict[str, float], int]:
        """Asks for a slot on a node: returns its actor, the resources it takes, and its threads."""
        devices, share = self._devices(node)
        processors = self._nodes[node]["Resources"].get("CPU", 0) / (devices * share)
        threads = max(1, int(processors))
        # Ray gives out a whole number of processors, or a fraction of one.
        resources = {"CPU": min(processors, threads)}
        if self.device == "cuda":
            resources = {"GPU": 1 / share, "CPU": min(processors, 1)}
        amounts = {"num_cpus": resources["CPU"], "num_gpus": resources.get("GPU", 0)}
        options = {"max_restarts": 0, "scheduling_strategy": _on(node), **amounts}
        return ray.remote(**_THREADS)(Member).options(**options).remote(), resources, threads

    def _devices(self, node: str) -> tuple[int, int]:
        """Returns how many devices a node has, and how many slots share one of them."""
        found = self._nodes[node]["Resources"]
        processors = found.get("CPU", 0)
        devices = int(found.get("GPU", 0)) if self.device == "cuda" else int(processors >= 1)
        return devices, self._execution.slots_of_device(processors / max(1, devices))

    def probe(self, node: str) -> Any:
        """Asks a node for an answer; Ray answers once it has given the node up."""
        answer = ray.remote(num_cpus=0)(lambda: None)
        return answer.options(scheduling_strategy=_on(node)).remote()


def _connect(execution: Execution) -> None:
    address, device = execution.address, execution.device
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        if device.startswith("cuda:"):
            os.environ["CUDA_VISIBLE_DEVICES"] = device.removeprefix("cuda:")
        options |= {"include_dashboard": False, "object_store_memory": STORE}
        # Slots are as urgent as a trial in the driver's own process.
        options["_system_config"] = {"worker_niceness": 0}
        failed = "execution.engine: Ray did not start on this machine"
        expected = "it to; try again once the machine is less busy, or with engine: inline"
    else:
        failed = f"execution.address: found no Ray cluster at {address}"
        token = "RAY_AUTH_MODE and its token as it was started"
        expected = f"the HOST:PORT of one that runs, with {token}, or no address"
    try:
        if match := re.fullmatch(r"([^:/]+):([0-9]+)", address or ""):
            # Ray needs minutes to notice that nothing answers at an address.
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        ray.init(address=address or "local", **options)
    except Exception as error:  # Ray raises a plain one if its node does not start in time
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"{failed} ({reason}), expected {expected}") from error


def alive() -> dict[str, dict[str, Any]]:
    """Asks Ray which nodes are alive, and returns what it knows of each by its id."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)
