"""What MLflow is told of a trial or a repeat: metrics, parameters and tags."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from micronet_search.store.outcome import Outcome

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

# Characters of a value that MLflow takes; whole it stands in the trial's files.
MAX_PARAM, MAX_TAG = 6000, 8000


def milliseconds(seconds: float) -> int:
    """Returns a Unix time as MLflow has it."""
    return int(seconds * 1000)


def metrics(outcome: Outcome, rule: str) -> list[Metric]:
    """Returns the metrics of a trial, without those that are missing or not finite.

    They follow from the outcome alone, times included, so that a trial which is recorded twice
    gives the same rows. The study minimises the score of the rule.
    """
    from mlflow.entities import Metric

    own, seconds = outcome.scores.get(rule, {}), outcome.seconds
    totals: dict[str, int | float | None] = {**outcome.totals()}
    bits = totals.pop("storage_bits")
    once = {
        "accuracy": outcome.accuracy,
        "test_accuracy": outcome.test_accuracy,
        "latency_ms": outcome.latency_ms,
        "score": own.get("score"),
        "score.parameters": own.get("parameters"),
        "score.operations": own.get("operations"),
        **{f"score.{name}": found.get("score") for name, found in outcome.scores.items()},
        **totals,
        "storage_bytes": None if bits is None else bits / 8,
        "seconds": sum(seconds.values()) if seconds else None,
        **{f"seconds.{stage}": spent for stage, spent in seconds.items()},
    }
    found = [(key, value, outcome.ended, 0) for key, value in once.items()]
    for row in outcome.curve:
        found.append(("train.loss", row.loss, row.ended, row.epoch))
        found.append(("validation.accuracy", row.accuracy, row.ended, row.epoch))
    return [
        Metric(key, float(value), milliseconds(time), step)
        for key, value, time, step in found
        if value is not None and math.isfinite(value)
    ]


def params(choices: Mapping[str, Any]) -> list[Param]:
    """Returns the searched choices as texts; what is no text as compact JSON, as in Optuna."""
    from mlflow.entities import Param

    def text(value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))

    return [Param(name, text(value)[:MAX_PARAM]) for name, value in choices.items()]


def tags(outcome: Outcome) -> dict[str, str]:
    """Returns how a trial ended, as tags."""
    found = {"state": outcome.state, "device": outcome.device}
    if outcome.base is not None:
        found["base"] = str(outcome.base)
    if outcome.state == "stopped":
        found["rung"] = str(outcome.curve[-1].epoch)
    return found if outcome.reason is None else found | {"reason": outcome.reason[:MAX_TAG]}


def truth(value: bool) -> str:
    """Returns a truth value as a tag."""
    return "true" if value else "false"
