"""What of an outcome goes into MLflow, as plain values."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from micronet_search.store.outcome import Outcome

MAX_PARAM, MAX_TAG = 6000, 8000
"""Characters of a value that MLflow takes; whole it stands in the trial's files."""


@dataclass(frozen=True)
class Metric:
    """One row of MLflow's metrics.

    Attributes:
        key: Its name.
        value: A finite number.
        timestamp: Unix time in milliseconds.
        step: The epoch, or the trial for a study's; 0 for what a trial has once.
    """

    key: str
    value: float
    timestamp: int
    step: int


def milliseconds(seconds: float) -> int:
    """A Unix time as MLflow has it."""
    return int(seconds * 1000)


def metrics(outcome: Outcome, rule: str) -> list[Metric]:
    """The metrics of a trial, without those that are missing or not finite.

    Nothing but the outcome goes in, the times least of all, so that a trial which is recorded
    twice gives the same rows.

    Args:
        outcome: How the trial ended.
        rule: The rule whose score the study minimises.
    """
    ended = milliseconds(outcome.ended)
    once = [(key, value, ended, 0) for key, value in _once(outcome, rule).items()]
    curve = [
        (key, value, milliseconds(epoch.ended), epoch.epoch)
        for epoch in outcome.curve
        for key, value in (("train.loss", epoch.loss), ("validation.accuracy", epoch.accuracy))
    ]
    return [
        Metric(key, float(value), timestamp, step)
        for key, value, timestamp, step in once + curve
        if value is not None and math.isfinite(value)
    ]


def _once(outcome: Outcome, rule: str) -> dict[str, float | None]:
    own = outcome.scores.get(rule, {})
    bits, seconds = outcome.storage_bits, outcome.seconds
    return {
        "accuracy": outcome.accuracy,
        "score": own.get("score"),
        "score.parameters": own.get("parameters"),
        "score.operations": own.get("operations"),
        **{f"score.{name}": found.get("score") for name, found in outcome.scores.items()},
        "macs": outcome.macs,
        "parameters": outcome.parameters,
        "nonzeros": outcome.nonzeros,
        "storage_bytes": None if bits is None else bits / 8,
        "seconds": sum(seconds.values()) if seconds else None,
        **{f"seconds.{stage}": spent for stage, spent in seconds.items()},
    }


def params(values: Mapping[str, Any]) -> dict[str, str]:
    """The searched leaves as texts; what is no text as compact JSON, as in Optuna."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in values.items()
    }
    return {name: text[:MAX_PARAM] for name, text in texts.items()}


def tags(outcome: Outcome, feasible: bool) -> dict[str, str]:
    """The tags of a trial that its outcome decides."""
    found = {"state": outcome.state, "feasible": truth(feasible), "device": outcome.device}
    if outcome.state == "stopped":
        found["rung"] = str(outcome.curve[-1].epoch)
    return found if outcome.reason is None else found | {"reason": outcome.reason[:MAX_TAG]}


def truth(value: bool) -> str:
    """A truth value as a tag."""
    return "true" if value else "false"
