"""Rows of a run, in as few calls as MLflow takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

# MLflow takes 1000 rows a call, of which 100 params and 100 tags at most.
_METRICS, _PARAMS = 800, 100


def log(
    client: MlflowClient,
    run_id: str,
    metrics: Sequence[Metric] = (),
    params: Sequence[Param] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    """Logs rows of a run; those that are there already stay as they are."""
    from mlflow.entities import RunTag

    labels = [RunTag(key, value) for key, value in (tags or {}).items()]
    for i in range(max(1, -(-len(metrics) // _METRICS), -(-len(params) // _PARAMS))):
        client.log_batch(
            run_id,
            metrics[i * _METRICS : (i + 1) * _METRICS],
            params[i * _PARAMS : (i + 1) * _PARAMS],
            () if i else labels,
        )
