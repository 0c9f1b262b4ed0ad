"""The engine that runs trials on every device of a Ray cluster, of one node or of many."""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import ActorUnavailableError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from micronet_search.config.sweep import Dataset, Execution
from micronet_search.data.splits import load
from micronet_search.engine.slot import Slot, require_folder
from micronet_search.engine.work import Crashed, Event, Job, Left, Order
from micronet_search.store.outcome import lost

PATIENCE = 0.5
"""Seconds that `wait` waits."""
CENSUS = 2.0
"""Seconds between two looks at the cluster's nodes."""
STARTS = 3
"""How often in a row a node's slots may die before they are ready."""
STORE = 256 * 2**20
"""Bytes of shared memory of a cluster that is made for a study: a few checkpoints."""
NODE_IS_GONE = "its node has died"
"""What Ray says of an actor whose node it has lost."""


class Member:
    """What lives in the process of a slot: Ray calls it through an actor.

    Ray runs `begin` and `go_on` in one thread and `pause` in another.
    """

    def open(self, dataset: Dataset, device: str, threads: int) -> str | None:
        """Makes the slot.

        Returns:
            Why there can be none on this node; None where there is one.
        """
        try:
            require_folder(dataset)
            self._slot = Slot(load(dataset), torch.device(device), threads)
        except (ValueError, OSError) as error:
            return str(error)
        return None

    def begin(self, job: Job) -> Iterator[Event]:
        """Streams what happens up to the first checkpoint, or to the end."""
        yield from self._slot.begin(job)

    def go_on(self, order: Order) -> Iterator[Event]:
        """Streams what happens up to the next checkpoint, or to the end."""
        yield from self._slot.go_on(order)

    def pause(self) -> None:
        """Has the job report a checkpoint after its epoch."""
        self._slot.pause()

    def clear(self) -> None:
        """Forgets the job."""
        self._slot.clear()


@dataclass(eq=False)
class _Member:
    """A slot as the driver sees it.

    Attributes:
        actor: Ray's handle.
        node: Where it is.
        pending: The answer of `open` until it has come, then the stream of events, if there is one.
        ready: Whether it has answered.
        number: Of the trial that holds it.
        lost: What was heard in the place of an event, while Ray finds out what it means.
    """

    actor: Any
    node: str
    pending: Any
    ready: bool = False
    number: int | None = None
    lost: RayError | None = None


class Ray:
    """An engine with a slot for each share of each device, wherever in the cluster it is.

    Nodes may join and leave at any time.
    """

    def __init__(self, dataset: Dataset, execution: Execution, tell: Callable[[str], None]) -> None:
        """Connects to the cluster, or makes one of this machine alone.

        Args:
            dataset: What trials are trained on; its folder has to be there on every node.
            execution: Which devices, and how many trials share one.
            tell: Is told of nodes that join, leave or cannot be used.

        Raises:
            ValueError: There is no such cluster, or no such device in it.
        """
        root = None if dataset.root is None else os.path.abspath(dataset.root)
        self._dataset = dataset.model_copy(update={"root": root})
        self._share = execution.trials_per_device
        self._is_local = execution.address is None
        self._tell = tell
        self._members: list[_Member] = []
        self._known: dict[str, str] = {}
        self._refused: dict[str, str] = {}
        self._deaths: dict[str, int] = {}
        self._counted = 0.0
        _connect(execution)
        self.device = self._choose(execution.device)
        self._census()

    @property
    def slots(self) -> int:
        """How many are ready by now."""
        return sum(member.ready for member in self._members)

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the trials that hold one."""
        return tuple(m.number for m in self._members if m.number is not None)

    def start(self, job: Job) -> None:
        """Gives a job to a free slot."""
        member = next(m for m in self._members if m.ready and m.number is None)
        member.number = job.number
        member.pending = member.actor.begin.options(num_returns="streaming").remote(job)

    def wait(self) -> tuple[int, Event] | None:
        """What happens next, in which trial; None where nothing did for a moment.

        Raises:
            ValueError: No node of the cluster can be used.
        """
        if time.monotonic() - self._counted > CENSUS:
            self._census()
        waiting = {m.pending: m for m in self._members if m.pending is not None}
        if not waiting:
            time.sleep(PATIENCE)
            return None
        ready, _ = ray.wait(list(waiting), num_returns=1, timeout=PATIENCE)
        return self._hear(waiting[ready[0]]) if ready else None

    def order(self, number: int, order: Order) -> None:
        """Answers the checkpoint of a trial."""
        member = self._member(number)
        member.pending = member.actor.go_on.options(num_returns="streaming").remote(order)

    def pause(self) -> None:
        """Has every trial report a checkpoint after the epoch that it is in."""
        for member in self._members:
            if member.number is not None:
                member.actor.pause.remote()

    def release(self, number: int) -> None:
        """Frees the slot of a trial."""
        member = self._member(number)
        member.number = member.pending = None
        if member.ready:
            member.actor.clear.remote()
        else:
            self._members.remove(member)

    def close(self) -> None:
        """Ends every slot and leaves the cluster, or ends it where it was made here."""
        for member in self._members:
            ray.kill(member.actor)
        self._members = []
        ray.shutdown()

    def _member(self, number: int) -> _Member:
        return next(member for member in self._members if member.number == number)

    def _choose(self, name: str) -> str:
        """The kind of device that all slots have."""
        has_gpu = any(node["Resources"].get("GPU", 0) >= 1 for node in _nodes())
        if name.startswith("cuda") and not has_gpu:
            raise ValueError(f"found no GPU in the Ray cluster, expected one for device: {name}")
        return "cuda" if has_gpu and name != "cpu" else "cpu"

    def _census(self) -> None:
        """Makes slots on what has joined, and forgets those of what has left."""
        self._counted = time.monotonic()
        nodes = {node["NodeID"]: node for node in _nodes()}
        for gone in self._known.keys() - nodes.keys():
            self._tell(f"node {self._known.pop(gone)} left")
        # a trial on such a node is heard of through its stream
        self._members = [m for m in self._members if m.node in nodes or m.number is not None]
        for node_id, node in nodes.items():
            self._known.setdefault(node_id, node["NodeManagerAddress"])
            here = sum(member.node == node_id for member in self._members)
            if node_id not in self._refused:
                for _ in range(self._slots_of(node) - here):
                    self._members.append(self._make(node_id, node))
        if not self._members and self._refused:
            raise ValueError("\n".join(self._refused.values()))
        if not nodes and self._is_local:
            raise ValueError("Ray's node on this machine has died; the same command goes on")

    def _slots_of(self, node: dict[str, Any]) -> int:
        found = node["Resources"]
        devices = int(found.get("GPU", 0)) if self.device == "cuda" else found.get("CPU", 0) >= 1
        return int(devices) * self._share

    def _make(self, node_id: str, node: dict[str, Any]) -> _Member:
        share = node["Resources"].get("CPU", 0) / self._slots_of(node)
        threads = max(1, int(share))
        has_gpu = self.device == "cuda"
        actor = ray.remote(Member).options(
            # of processors Ray takes an integer, or a fraction of one
            num_cpus=min(share, 1 if has_gpu else threads),
            num_gpus=1 / self._share if has_gpu else 0,
            max_concurrency=2,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False),
        )
        made: Any = actor.remote()
        return _Member(made, node_id, made.open.remote(self._dataset, self.device, threads))

    def _hear(self, member: _Member) -> tuple[int, Event] | None:
        """What a slot has to say."""
        try:
            if member.lost is not None:
                ray.get(member.pending)
                return self._bury(member, member.lost)
            if not member.ready:
                self._welcome(member, ray.get(member.pending))
                return None
            event: Event = ray.get(next(member.pending))
        except ActorUnavailableError as error:
            # Ray is to find out whether the slot is dead, and its node with it
            member.lost, member.pending = error, member.actor.__ray_ready__.remote()
            return None
        except RayError as error:
            return self._bury(member, error)
        assert member.number is not None
        # whoever comes next is heard first, so that no slot waits for a talkative one
        self._members.remove(member)
        self._members.append(member)
        if isinstance(event, Crashed):
            self._retire(member)
        return member.number, event

    def _welcome(self, member: _Member, refusal: str | None) -> None:
        member.pending = None
        if refusal is None:
            member.ready = True
            self._deaths.pop(member.node, None)
            self._tell(f"a slot on {self.device} of node {self._known[member.node]} is ready")
        else:
            self._refuse(member, refusal)

    def _refuse(self, member: _Member, reason: str) -> None:
        """Gives up a node, and ends the slots that were to start there."""
        line = f"node {self._known.get(member.node, member.node)}: {reason}"
        self._members.remove(member)
        if member.node not in self._refused:
            self._refused[member.node] = line
            if self._members:
                self._tell(line)

    def _bury(self, member: _Member, error: RayError) -> tuple[int, Event] | None:
        """A slot has died; the next census makes another, where its node is still there."""
        self._retire(member)
        reason = str(error).strip() or type(error).__name__
        is_gone = NODE_IS_GONE in reason
        if member.number is None:
            self._deaths[member.node] = self._deaths.get(member.node, 0) + 1
            if self._deaths[member.node] >= STARTS and not is_gone:
                self._refuse(member, f"slots die before they are ready: {reason.splitlines()[-1]}")
            else:
                self._members.remove(member)
            return None
        if is_gone:
            return member.number, Left(f"node {self._known.get(member.node, member.node)} left")
        what = f"the slot died: {type(error).__name__}"
        return member.number, Crashed(lost(what, reason))

    def _retire(self, member: _Member) -> None:
        """Takes a slot out of use; what crashed may have left its device unusable."""
        member.ready, member.pending = False, None
        ray.kill(member.actor)
        self._counted = 0.0


def _connect(execution: Execution) -> None:
    """Joins the cluster of the sweep, or starts one for this machine alone.

    Raises:
        ValueError: Nothing answers at the address.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if execution.address is None:
        if execution.device.startswith("cuda:"):
            os.environ["CUDA_VISIBLE_DEVICES"] = execution.device.removeprefix("cuda:")
        options |= {
            "address": "local",
            "include_dashboard": False,
            "object_store_memory": STORE,
            # slots are no less urgent than a trial in the driver's own process
            "_system_config": {"worker_niceness": 0},
        }
    else:
        options["address"] = execution.address
    try:
        if match := re.fullmatch(r"([^:/]+):([0-9]+)", execution.address or ""):
            # of an address where nothing is Ray says so after minutes
            socket.create_connection((match[1], int(match[2])), timeout=10).close()
        ray.init(**options)
    except (OSError, OverflowError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"execution.address: found no Ray cluster at {execution.address or 'this machine'} "
            f"({first}), expected the HOST:PORT of one that runs, with RAY_AUTH_MODE and its token "
            "as it was started, or no address"
        ) from error


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()
    return [node for node in found if node["Alive"]]
