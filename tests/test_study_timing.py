"""The latency of a trial that has ended."""

from dataclasses import replace

import pytest
from exports import random_shipped, widths

from micronet_search.config.sweep import Objectives
from micronet_search.runtime import ExportError
from micronet_search.shipped import pack
from micronet_search.store.outcome import Outcome, Result
from micronet_search.store.paths import MODEL_FILE
from micronet_search.study.timing import timed

GOALS = {"accuracy": {"at_least": 0.5}, "score": {"at_most": 0.4}}
LIMITED = Objectives.model_validate(GOALS | {"latency": {"at_most": 1.0}})
SCORES = {"imt": {"parameters": 0.1, "operations": 0.1, "score": 0.2}}
OUTCOME = Outcome("complete", 0.0, 1.0, "cpu", accuracy=0.9, scores=SCORES)


def result(outcome: Outcome) -> Result:
    shipped = random_shipped(widths(4, 8))
    model = pack(shipped.candidate, shipped.tensors, shipped.normalization)
    return Result(outcome, {MODEL_FILE: model})


def test_a_complete_trial_is_timed_where_that_counts() -> None:
    found = timed(result(OUTCOME), LIMITED).outcome
    assert found.latency_ms is not None
    assert found == replace(OUTCOME, latency_ms=found.latency_ms)
    assert timed(result(OUTCOME), Objectives.model_validate(GOALS)).outcome == OUTCOME
    stopped = Result(replace(OUTCOME, state="stopped"), {})
    assert timed(stopped, LIMITED) is stopped


def test_a_network_that_does_not_run_is_that_of_a_failed_trial(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> dict[str, object]:
        raise ExportError("no kernel for it")

    monkeypatch.setattr("micronet_search.runtime.latency.probe", refuse)
    found = timed(result(OUTCOME), LIMITED).outcome
    # without an accuracy, which would be a point in the picture of the trials
    assert found == Outcome("failed", 0.0, 1.0, "cpu", reason="no kernel for it")
