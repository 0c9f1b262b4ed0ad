"""An outcome as rows of MLflow's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from micronet_search.store.outcome import Outcome

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

MAX_PARAM, MAX_TAG = 6000, 8000
"""Characters of a value that MLflow takes; whole it stands in the trial's files."""


def milliseconds(seconds: float) -> int:
    """Returns a Unix time as MLflow has it."""
    return int(seconds * 1000)


def metrics(outcome: Outcome, rule: str) -> list[Metric]:
    """Returns the metrics of a trial, without those that are missing or not finite.

    They follow from the outcome alone, times included, so that a trial which is recorded twice
    gives the same rows.

    Args:
        outcome: How the trial ended.
        rule: The rule whose score the study minimises.
    """
    from mlflow.entities import Metric

    ended = milliseconds(outcome.ended)
    found = [(key, value, ended, 0) for key, value in _once(outcome, rule).items()]
    for epoch in outcome.curve:
        time, step = milliseconds(epoch.ended), epoch.epoch
        found.append(("train.loss", epoch.loss, time, step))
        found.append(("validation.accuracy", epoch.accuracy, time, step))
    return [
        Metric(key, float(value), time, step)
        for key, value, time, step in found
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


def params(choices: Mapping[str, Any]) -> list[Param]:
    """Returns the searched choices as texts; what is no text as compact JSON, as in Optuna."""
    from mlflow.entities import Param

    texts = {
        name: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
        for name, value in choices.items()
    }
    return [Param(name, text[:MAX_PARAM]) for name, text in texts.items()]


def tags(outcome: Outcome, feasible: bool) -> dict[str, str]:
    """Returns the tags of a trial that its outcome decides."""
    found = {"state": outcome.state, "feasible": truth(feasible), "device": outcome.device}
    if outcome.state == "stopped":
        found["rung"] = str(outcome.curve[-1].epoch)
    return found if outcome.reason is None else found | {"reason": outcome.reason[:MAX_TAG]}


def truth(value: bool) -> str:
    """Returns a truth value as a tag."""
    return "true" if value else "false"
