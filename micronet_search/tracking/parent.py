"""Where MLflow keeps a study: its experiment, and its own run above those of the trials."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def find_experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """The study's experiment; one that was deleted in the UI comes back with all its runs."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, location))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def find_parent(client: MlflowClient, experiment: str, name: str, identity: str) -> Run:
    """The study's own run, which is made where there is none, as that of a study that waits."""
    from mlflow.entities import ViewType

    found = client.search_runs([experiment], f"tags.study = '{identity}'", ViewType.ALL, 1)
    if not found:
        run = client.create_run(experiment, tags={"study": identity}, run_name=name)
        client.update_run(run.info.run_id, "SCHEDULED")
        return run
    if found[0].info.lifecycle_stage == "deleted":
        client.restore_run(found[0].info.run_id)
    return found[0]
