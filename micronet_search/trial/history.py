"""What a trial has done so far, and how it ended."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from micronet_search.scoring.cost import Cost
from micronet_search.scoring.rules import scores
from micronet_search.store.files import to_csv
from micronet_search.store.outcome import Epoch, Outcome, Result, State


@dataclass
class History:
    """What a trial has done so far.

    Attributes:
        started: Unix time of the first start.
        curve: A row for each epoch.
        seconds: The time of each stage.
    """

    started: float = field(default_factory=time.time)
    curve: list[Epoch] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def epoch(self) -> int:
        """How many epochs were trained."""
        return len(self.curve)

    @contextmanager
    def clock(self, stage: str) -> Iterator[None]:
        """Adds the time that the context takes to a stage."""
        begun = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begun

    def result(
        self,
        state: State,
        device: str,
        *,
        cost: Cost | None = None,
        accuracy: float | None = None,
        reason: str | None = None,
        files: dict[str, bytes] | None = None,
    ) -> Result:
        """Returns the result of the trial, which ends now.

        Args:
            state: How it ended.
            device: Where it ran.
            cost: Measured, or for a stopped trial predicted; None for a failed one.
            accuracy: On the validation split, 0 to 1.
            reason: Why it was stopped or failed.
            files: What it leaves beside its curve, by name.
        """
        counted: dict[str, Any] = {}
        if cost is not None:
            counted = {**cost.totals(), "scores": {n: s.to_json() for n, s in scores(cost).items()}}
        outcome = Outcome(
            state=state,
            started=self.started,
            ended=time.time(),
            device=device,
            reason=reason,
            accuracy=accuracy,
            seconds=self.seconds,
            curve=tuple(self.curve),
            **counted,
        )
        rows = [asdict(row) for row in self.curve]
        curve = {"curve.csv": to_csv(rows).encode()} if rows else {}
        return Result(outcome, curve | (files or {}))
