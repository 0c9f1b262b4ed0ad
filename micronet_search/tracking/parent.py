"""Where MLflow keeps a study: its experiment, and its own run above those of the trials."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from micronet_search.store.paths import StudyFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SUFFIX = " (superseded)"


def whereabouts(folder: StudyFolder, uri: str) -> str:
    """Where a study is, which tells it from one of its name elsewhere that has the same store."""
    path = str(folder.path.absolute())
    return path if uri.startswith("sqlite:") else f"{socket.gethostname()}:{path}"


def find_experiment(client: MlflowClient, name: str, location: str | None) -> str:
    """The study's experiment; one that was deleted in the UI comes back with all its runs."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, location))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)


def find_parent(
    client: MlflowClient, experiment: str, name: str, identity: str, folder: str
) -> Run:
    """The study's own run, which is made where there is none, as that of a study that waits.

    The run of another study which was in the same folder is marked as superseded.
    """
    from mlflow.entities import ViewType

    found = client.search_runs([experiment], "tags.study LIKE '%'", ViewType.ALL)
    mine = [run for run in found if run.data.tags["study"] == identity]
    for run in found:
        tags = run.data.tags
        if run not in mine and tags.get("folder") == folder and "superseded" not in tags:
            _supersede(client, run)
    if not mine:
        tags = {"study": identity, "folder": folder}
        run = client.create_run(experiment, tags=tags, run_name=name)
        client.update_run(run.info.run_id, "SCHEDULED")
        return run
    run_id, tags = mine[0].info.run_id, mine[0].data.tags
    if mine[0].info.lifecycle_stage == "deleted":
        client.restore_run(run_id)
    if tags.get("folder") != folder:
        client.set_tag(run_id, "folder", folder)
    if "superseded" in tags:  # its folder is back
        client.update_run(run_id, name=mine[0].info.run_name.removesuffix(_SUFFIX))
        client.delete_tag(run_id, "superseded")
    return mine[0]


def _supersede(client: MlflowClient, run: Run) -> None:
    """Marks the run of a study that is no more; its front is told from that of its successor."""
    if run.info.lifecycle_stage == "deleted":
        return
    run_id = run.info.run_id
    query = f"tags.`mlflow.parentRunId` = '{run_id}' AND tags.front = 'true'"
    for child in client.search_runs([run.info.experiment_id], query):
        client.set_tag(child.info.run_id, "front", "superseded")
    if run.info.status in ("RUNNING", "SCHEDULED"):
        client.set_terminated(run_id, "KILLED")
    client.update_run(run_id, name=run.info.run_name.removesuffix(_SUFFIX) + _SUFFIX)
    client.set_tag(run_id, "superseded", "true")
