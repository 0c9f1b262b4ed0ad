"""The conversation of a driver with the slots of a Ray cluster."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayError

from micronet_search.config.sweep import Dataset, Execution
from micronet_search.engine.ray.cluster import Cluster
from micronet_search.engine.work import Crashed, Event, Job, Left, Order
from micronet_search.store.outcome import lost

PATIENCE = 0.5
"""Seconds that `wait` waits."""
CENSUS = 2.0
"""Seconds between two looks at the cluster's nodes."""
SLOW = 30.0
"""Seconds after which a slot that Ray has not started is told of."""
STARTS = 3
"""How often in a row a node's slots may die before they are ready."""


@dataclass(eq=False)
class _Member:
    """A slot as the driver sees it.

    Attributes:
        actor: Ray's handle.
        node: Where it is.
        resources: What it takes of the node.
        started: Is answered once its process is there.
        pending: The answer of `open` until it has come, then the stream of events, if there is one.
        made: When it was asked for.
        is_told: Whether the user knows that it has not started.
        ready: Whether it has answered.
        number: Of the trial that holds it.
        lost: What was heard in the place of an answer; then the node's own answer is pending.
    """

    actor: Any
    node: str
    resources: dict[str, float]
    started: Any
    pending: Any
    made: float = field(default_factory=time.monotonic)
    is_told: bool = False
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
            tell: Is told of slots that get ready, and of nodes that leave or cannot be used.

        Raises:
            ValueError: There is no such cluster, or no such device in it.
        """
        root = None if dataset.root is None else os.path.abspath(dataset.root)
        self._dataset = dataset.model_copy(update={"root": root})
        self._tell = tell
        self._members: list[_Member] = []
        self._deaths: Counter[str] = Counter()
        self._cluster = Cluster(execution, tell)
        self.device = self._cluster.device
        self._census()

    @property
    def slots(self) -> int:
        """How many are ready by now."""
        return sum(member.ready for member in self._members)

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
        self._cluster.close()

    def _member(self, number: int) -> _Member:
        return next(member for member in self._members if member.number == number)

    def _census(self) -> None:
        """Makes slots on what has joined, and forgets those of what has left."""
        self._counted = time.monotonic()
        nodes = self._cluster.look()
        # a trial on a node that has left is heard of through its stream
        self._members = [m for m in self._members if m.node in nodes or m.number is not None]
        for node in nodes:
            here = sum(member.node == node for member in self._members)
            for _ in range(self._cluster.room(node) - here):
                self._members.append(self._make(node))
            self._tell_of_slow(node)
        if not self._members and self._cluster.refused:
            raise ValueError("\n".join(self._cluster.refused.values()))

    def _make(self, node: str) -> _Member:
        resources, threads = self._cluster.share(node)
        actor = self._cluster.make(node, resources)
        started = actor.__ray_ready__.remote()
        opened = actor.open.remote(self._dataset, self.device, threads)
        return _Member(actor, node, resources, started, opened)

    def _tell_of_slow(self, node: str) -> None:
        """Tells, once, of slots that Ray does not start, as where others use the processors."""
        late = time.monotonic() - SLOW
        new = [m for m in self._members if m.node == node and not (m.ready or m.is_told)]
        slow = [m for m in new if m.made < late and not ray.wait([m.started], timeout=0)[0]]
        for member in slow:
            member.is_told = True
        if slow:
            what = " and ".join(f"{amount:g} {kind}" for kind, amount in slow[0].resources.items())
            slots = "a slot waits" if len(slow) == 1 else f"{len(slow)} slots wait, each"
            self._tell(
                f"node {self._cluster.name(node)}: {slots} for {what}; "
                "somebody else may use them, which `ray status` tells"
            )

    def _hear(self, member: _Member) -> tuple[int, Event] | None:
        """What a slot has to say."""
        if member.lost is not None:
            return self._bury(member, member.lost)
        try:
            if not member.ready:
                self._welcome(member, ray.get(member.pending))
                return None
            event: Event = ray.get(next(member.pending))
        except RayError as error:
            # the slot is lost; whether its node is too shows when the node answers, or Ray for it
            self._retire(member)
            member.lost, member.pending = error, self._cluster.probe(member.node)
            return None
        assert member.number is not None
        # whoever comes next is heard first, so that no slot waits for a talkative one
        self._members.remove(member)
        self._members.append(member)
        if isinstance(event, Crashed):
            self._retire(member)
        return member.number, event

    def _welcome(self, member: _Member, refusal: str | None) -> None:
        member.pending = None
        name = self._cluster.name(member.node)
        if refusal is None:
            member.ready = True
            del self._deaths[member.node]
            self._tell(f"a slot on {self.device} of node {name} is ready")
        else:
            self._members.remove(member)
            self._refuse(member.node, refusal)

    def _refuse(self, node: str, reason: str) -> None:
        """Gives up a node."""
        line = f"node {self._cluster.name(node)}: {reason}"
        if node not in self._cluster.refused:
            self._cluster.refused[node] = line
            if self._members:
                self._tell(line)

    def _bury(self, member: _Member, error: RayError) -> tuple[int, Event] | None:
        """A slot has died; the next census makes another, where its node is still there."""
        member.pending, self._counted = None, 0.0
        is_there = self._cluster.is_there(member.node)
        reason = str(error).strip() or type(error).__name__
        if member.number is None:
            self._members.remove(member)
            self._deaths[member.node] += is_there
            if self._deaths[member.node] >= STARTS:
                last = reason.splitlines()[-1]
                self._refuse(member.node, f"slots die before they are ready: {last}")
            return None
        if not is_there:
            return member.number, Left(f"node {self._cluster.name(member.node)} left")
        what = f"the slot died: {type(error).__name__}"
        return member.number, Crashed(lost(what, reason))

    def _retire(self, member: _Member) -> None:
        """Takes a slot out of use; what crashed may have left its device unusable."""
        member.ready, member.pending = False, None
        ray.kill(member.actor)
        self._counted = 0.0
