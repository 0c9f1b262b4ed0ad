"""The latency of a trial's network, where the study has a goal for it."""

from dataclasses import replace

from micronet_search import shipped
from micronet_search.config.sweep import Objectives
from micronet_search.runtime import ExportError
from micronet_search.runtime.latency import latency
from micronet_search.store.outcome import Result
from micronet_search.store.paths import MODEL_FILE


def timed(result: Result, objectives: Objectives) -> Result:
    """Returns the result of a trial with its latency, measured on this machine, if that counts.

    A trial whose network ONNX Runtime does not run has failed.
    """
    outcome = result.outcome
    if objectives.latency is None or outcome.state != "complete":
        return result
    try:
        found = latency(shipped.unpack(result.files[MODEL_FILE]))
    except ExportError as error:
        failed = replace(outcome, state="failed", reason=str(error), accuracy=None, scores={})
        return replace(result, outcome=failed)
    return replace(result, outcome=replace(outcome, latency_ms=found))
