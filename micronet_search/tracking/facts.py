"""What MLflow is told of a trial or a repeat: its name, its figures, and a sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from micronet_search.config.candidate import Candidate
from micronet_search.store.outcome import Outcome

if TYPE_CHECKING:
    from mlflow.entities import Metric, Param

# Characters of a value that MLflow takes; whole it stands in the trial's files.
MAX_PARAM, MAX_TAG = 6000, 8000

LOSS, ACCURACY = "train/loss", "validation/accuracy"
"""The metrics of a curve; MLflow makes a section of charts of what stands before a slash."""


def milliseconds(seconds: float) -> int:
    """Returns a Unix time as MLflow has it."""
    return int(seconds * 1000)


def run_name(number: int, outcome: Outcome, rule: str) -> str:
    """Returns what a trial is called in MLflow, by which it is found again."""
    if outcome.state == "failed" or outcome.accuracy is None:
        return f"#{number}  failed"
    if outcome.state == "stopped":
        return f"#{number}  stopped at {outcome.accuracy:.1%}"
    return f"#{number}  {outcome.accuracy:.1%}  {outcome.scores[rule]['score']:.3g}"


def metrics(outcome: Outcome, rule: str) -> list[Metric]:
    """Returns the metrics of a trial, without those that are missing or not finite.

    They follow from the outcome alone, times included, so that a trial which is recorded twice
    gives the same rows. The study minimises the score of the rule. Scores below a thousandth read
    as 0 in MLflow's table: so there are millionths too, and logarithms, for want of a log axis. Of
    a stopped trial the curve of the accuracy alone is kept.
    """
    from mlflow.entities import Metric

    found = [(key, value, outcome.ended, 0) for key, value in _once(outcome, rule).items()]
    for row in outcome.curve:
        if outcome.state != "stopped":
            found.append((LOSS, row.loss, row.ended, row.epoch))
        found.append((ACCURACY, row.accuracy, row.ended, row.epoch))
    return [
        Metric(key, float(value), milliseconds(time), step)
        for key, value, time, step in found
        if value is not None and math.isfinite(value)
    ]


def _once(outcome: Outcome, rule: str) -> dict[str, float | None]:
    """Returns the metrics that have one value."""
    own, seconds = outcome.scores.get(rule, {}), outcome.seconds
    others = {name: found.get("score") for name, found in outcome.scores.items() if name != rule}
    score, bits = own.get("score"), outcome.storage_bits
    found: dict[str, float | None] = {
        "accuracy": outcome.accuracy,
        "test_accuracy": outcome.test_accuracy,
        "latency_ms": outcome.latency_ms,
        "score": score,
        "score_millionths": None if score is None else round(1e6 * score, 1),
        "score_log10": math.log10(score) if score else None,
        "seconds": sum(seconds.values()) if seconds else None,
        "score/parameters": own.get("parameters"),
        "score/operations": own.get("operations"),
        **{f"score/{name}": value for name, value in others.items()},
        "cost/parameters": outcome.parameters,
        "cost/nonzeros": outcome.nonzeros,
        "cost/macs": outcome.macs,
        "cost/storage_bytes": None if bits is None else bits / 8,
    }
    if outcome.state != "stopped":
        found |= {f"seconds/{stage}": spent for stage, spent in seconds.items()}
    return found


def sentence(candidate: Candidate, outcome: Outcome) -> str:
    """Returns a trial in a sentence: what became of it, and what it is."""
    parts = [*_parts(candidate)]
    if outcome.state == "failed" or outcome.accuracy is None:
        return f"failed: {', '.join(parts)}"
    stopped = "stopped at " if outcome.state == "stopped" else ""
    return f"{stopped}{outcome.accuracy:.1%}, {', '.join(parts)}"


def _parts(candidate: Candidate) -> Iterator[str]:
    if (quantization := candidate.quantization) is not None:
        yield f"{quantization.weight_bits}-bit weights"
    if candidate.pruning is not None:
        yield f"{candidate.pruning.sparsity:.0%} sparse"
    if (thin := candidate.structured_pruning) is not None:
        yield f"{thin.ratio:.0%} of the channels removed"
    if candidate.factorization is not None:
        yield f"factorized ({candidate.factorization.kind})"
    yield candidate.network.title.split(" ", 1)[-1]


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
