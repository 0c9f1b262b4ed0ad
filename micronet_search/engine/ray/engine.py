"""The engine whose slots are spread over the devices of a Ray cluster."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from micronet_search.config.sweep import Dataset, Execution
from micronet_search.engine.ray.cluster import Cluster, alive
from micronet_search.engine.work import Crashed, Event, Job, Left, Order
from micronet_search.store.outcome import lost

PATIENCE = 0.5  # seconds that `wait` waits for an event
CENSUS = 2.0  # seconds between two looks at the cluster's nodes
SLOW = 30.0  # seconds after which the user is told of a slot that Ray has not started
STARTS = 3  # a node is not used once so many of its slots in a row died before they were ready


@dataclass(eq=False)
class _Member:
    """A slot as the driver sees it, and the number of the job that holds it.

    Attributes:
        started: A reference that Ray answers once the process runs.
        pending: What the driver waits for: the answer of `open`, then the events of a job, and once
            the slot is lost, the answer of its node. None if it waits for nothing.
        requested: When Ray was asked for the slot, in seconds of the monotonic clock.
        is_told: Whether the user knows that the slot has not started.
        error: The error with which the slot was lost.
    """

    actor: Any
    node: str
    resources: dict[str, float]
    started: Any
    pending: Any
    requested: float = field(default_factory=time.monotonic)
    is_told: bool = False
    ready: bool = False
    number: int | None = None
    error: RayError | None = None


class Ray:
    """An engine with a slot for each share of each device, wherever in the cluster it is."""

    def __init__(self, dataset: Dataset, execution: Execution, tell: Callable[[str], None]) -> None:
        """Opens the cluster, like `Cluster`, and asks it for slots.

        The dataset's folder must exist on every node. `tell` receives a line whenever a slot is
        ready, or a node leaves or cannot be used.
        """
        root = None if dataset.root is None else os.path.abspath(dataset.root)
        self._dataset = dataset.model_copy(update={"root": root})
        self._tell = tell
        self._members: list[_Member] = []
        self._deaths: Counter[str] = Counter()
        self._cluster = Cluster(execution, tell)
        self.device = self._cluster.device
        self._take_census()

    @property
    def slots(self) -> int:
        """The number of slots that are ready."""
        return sum(member.ready for member in self._members)

    def start(self, job: Job) -> None:
        """Gives a job to a free slot."""
        member = next(m for m in self._members if m.ready and m.number is None)
        member.number = job.number
        member.pending = member.actor.begin.options(num_returns="streaming").remote(job)

    def wait(self) -> tuple[int, Event] | None:
        """Returns the next event with its job's number; None if nothing happens for a moment."""
        if time.monotonic() - self._counted > CENSUS:
            self._take_census()
        waiting = {m.pending: m for m in self._members if m.pending is not None}
        if not waiting:
            time.sleep(PATIENCE)
            return None
        answered, _ = ray.wait(list(waiting), timeout=PATIENCE)
        return self._hear(waiting[answered[0]]) if answered else None

    def order(self, number: int, order: Order) -> None:
        """Answers the checkpoint of a job."""
        member = self._holder(number)
        member.pending = member.actor.go_on.options(num_returns="streaming").remote(order)

    def pause(self) -> None:
        """Asks every job for a checkpoint after its current epoch."""
        for member in self._members:
            if member.number is not None:
                member.actor.pause.remote()

    def release(self, number: int) -> None:
        """Frees the slot of a job."""
        member = self._holder(number)
        member.number = member.pending = None
        if member.ready:
            member.actor.clear.remote()
        else:
            self._members.remove(member)

    def close(self) -> None:
        """Ends every slot, and leaves the cluster or ends it if it was made here."""
        for member in self._members:
            ray.kill(member.actor)
        self._members = []
        self._cluster.close()

    def _holder(self, number: int) -> _Member:
        return next(member for member in self._members if member.number == number)

    def _take_census(self) -> None:
        """Makes slots on nodes that have joined, and forgets those of nodes that have left."""
        self._counted = time.monotonic()
        nodes = self._cluster.look()
        # A slot with a job stays: its stream of events ends with an error.
        self._members = [m for m in self._members if m.node in nodes or m.number is not None]
        for node in nodes:
            here = sum(member.node == node for member in self._members)
            for _ in range(self._cluster.room(node) - here):
                actor, resources, threads = self._cluster.make(node)
                started = actor.__ray_ready__.remote()
                opened = actor.open.remote(self._dataset, self.device, threads)
                self._members.append(_Member(actor, node, resources, started, opened))
            self._tell_of_slow(node)
        if not self._members and self._cluster.refused:
            raise ValueError("\n".join(self._cluster.refused.values()))

    def _tell_of_slow(self, node: str) -> None:
        """Tells, once, of slots that Ray does not start, often because others use the node."""
        late = time.monotonic() - SLOW
        new = [m for m in self._members if m.node == node and not (m.ready or m.is_told)]
        slow = [m for m in new if m.requested < late and not ray.wait([m.started], timeout=0)[0]]
        for member in slow:
            member.is_told = True
        if slow:
            what = " and ".join(f"{amount:g} {kind}" for kind, amount in slow[0].resources.items())
            slots = "a slot waits" if len(slow) == 1 else f"{len(slow)} slots wait, each"
            self._tell(
                f"node {self._cluster.name(node)}: {slots} for {what}; "
                "`ray status` shows whether somebody else uses them"
            )

    def _welcome(self, member: _Member, refusal: str | None) -> None:
        """Uses a slot from now on, or its node no more if the slot says why it cannot be there."""
        member.pending = None
        if refusal is not None:
            self._members.remove(member)
            self._refuse(member.node, refusal)
        else:
            member.ready = True
            del self._deaths[member.node]
            self._tell(
                f"a slot on {self.device} of node {self._cluster.name(member.node)} is ready"
            )

    def _refuse(self, node: str, reason: str) -> None:
        line = f"node {self._cluster.name(node)}: {reason}"
        if node not in self._cluster.refused:
            self._cluster.refused[node] = line
            if self._members:  # else the next census raises an error with this line
                self._tell(line)

    def _hear(self, member: _Member) -> tuple[int, Event] | None:
        if member.error is not None:
            return self._bury(member, member.error)
        try:
            if not member.ready:
                self._welcome(member, ray.get(member.pending))
                return None
            event: Event = ray.get(next(member.pending))
        except RayError as error:
            # The slot is lost. Its node's answer, or Ray's for it, tells whether the node is too.
            self._retire(member)
            member.error, member.pending = error, self._cluster.probe(member.node)
            return None
        assert member.number is not None
        # The slot goes to the end of the line, so that it keeps no other one from being heard.
        self._members.remove(member)
        self._members.append(member)
        if isinstance(event, Crashed):
            self._retire(member)
        return member.number, event

    def _retire(self, member: _Member) -> None:
        """Ends a slot, whose crash may have left its device unusable."""
        member.ready, member.pending = False, None
        ray.kill(member.actor)
        self._counted = 0.0

    def _bury(self, member: _Member, error: RayError) -> tuple[int, Event] | None:
        """Returns what a lost slot means for its job; the next census makes another slot."""
        member.pending, self._counted = None, 0.0
        node_lives = member.node in alive()
        reason = str(error).strip() or type(error).__name__
        if member.number is None:
            self._members.remove(member)
            self._deaths[member.node] += node_lives
            if self._deaths[member.node] >= STARTS:
                last = reason.splitlines()[-1]
                self._refuse(member.node, f"slots die before they are ready: {last}")
            return None
        if not node_lives:
            return member.number, Left(f"node {self._cluster.name(member.node)} left")
        return member.number, Crashed(lost(f"the slot died: {type(error).__name__}", reason))
