"""Where the runs of a study come from, as MLflow's own tags and its inputs have it."""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from micronet_search.config.sweep import Sweep

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput


def context(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that MLflow sets on runs of its own: user, source and git's commit.

    The environment is that of the driver's start; its `commit` may be missing.
    """
    found = {"mlflow.source.name": "micronet-search", "mlflow.source.type": "LOCAL"}
    try:
        found["mlflow.user"] = getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in some containers
        found["mlflow.user"] = "unknown"
    if "commit" in environment:
        found["mlflow.source.git.commit"] = environment["commit"]
    return found


def dataset_input(sweep: Sweep, digest: str) -> DatasetInput:
    """Returns the training images of a study as an input of its run."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    profile = json.dumps({"limit": sweep.dataset.limit, "validation": sweep.dataset.validation})
    dataset = Dataset(
        name=sweep.dataset.name,
        digest=digest[:16],
        source_type="local",
        source=json.dumps({"name": sweep.dataset.name}),
        profile=profile,
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
