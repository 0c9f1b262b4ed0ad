"""The runs of a study in MLflow: its own, the parent, and below it those of trials and repeats."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

from micronet_search.store.paths import StudyFolder

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

REPEAT = "repeat "
"""What the name of a repeat's run begins with."""

_SUFFIX = " (superseded)"
_NAME = re.compile(r"(?:#|trial )([0-9]{1,9})(?:  .*)?")  # earlier versions had `trial 0012`


STATUS = {"complete": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
"""MLflow's status of a trial's run, by the trial's state."""


def is_whole(run: Run) -> bool:
    """Returns whether all of a run was recorded, or the user has deleted it."""
    return is_deleted(run) or run.info.status in STATUS.values()


def is_deleted(run: Run) -> bool:
    """Returns whether the user has deleted a run."""
    return bool(run.info.lifecycle_stage == "deleted")


def find_parent(
    client: MlflowClient, uri: str, location: str | None, folder: StudyFolder, identity: str
) -> Run:
    """Finds or creates the run of a study; a new one is SCHEDULED, a deleted one comes back.

    The run of another study that was in the same folder is marked as superseded. A store at a `uri`
    that is no file is shared by machines, each with folders of its own. The study's id stays where
    its folder is moved. A new experiment's artifacts go to the location, or where MLflow chooses.
    """
    from mlflow.entities import ViewType

    name = folder.path.name
    known = client.get_experiment_by_name(name)
    if known is None:
        experiment = client.create_experiment(name, location)
    else:
        experiment = known.experiment_id
        if known.lifecycle_stage == "deleted":  # it comes back with all its runs
            client.restore_experiment(experiment)
    host = "" if uri.startswith("sqlite:") else f"{socket.gethostname()}:"
    place = host + str(folder.path.absolute())
    found = client.search_runs([experiment], "tags.study LIKE '%'", ViewType.ALL)
    mine = next((run for run in found if run.data.tags["study"] == identity), None)
    for run in found:
        tags = run.data.tags
        if run is not mine and tags.get("folder") == place and "superseded" not in tags:
            _supersede(client, run)
    if mine is not None:
        _restore(client, mine, place)
        return mine
    tags = {"study": identity, "folder": place}
    run_id = client.create_run(experiment, tags=tags, run_name=name).info.run_id
    client.update_run(run_id, "SCHEDULED")
    return client.get_run(run_id)


def _restore(client: MlflowClient, run: Run, place: str) -> None:
    """Makes a run that was found that of the study in a folder."""
    run_id, tags = run.info.run_id, run.data.tags
    if is_deleted(run):
        client.restore_run(run_id)
    if tags.get("folder") != place:
        client.set_tag(run_id, "folder", place)
    if "superseded" in tags:  # its folder is back
        client.update_run(run_id, name=run.info.run_name.removesuffix(_SUFFIX))
        client.delete_tag(run_id, "superseded")


def _supersede(client: MlflowClient, run: Run) -> None:
    """Marks the run of a study that is no more; its front is told from that of its successor."""
    if is_deleted(run):
        return
    run_id = run.info.run_id
    query = f"tags.`mlflow.parentRunId` = '{run_id}' AND tags.front = 'true'"
    for child in client.search_runs([run.info.experiment_id], query):
        client.set_tag(child.info.run_id, "front", "superseded")
    if run.info.status in ("RUNNING", "SCHEDULED"):
        client.set_terminated(run_id, "KILLED")
    client.update_run(run_id, name=run.info.run_name.removesuffix(_SUFFIX) + _SUFFIX)
    client.set_tag(run_id, "superseded", "true")


def find_children(client: MlflowClient, parent: Run) -> list[Run]:
    """Finds all runs below a study's own, deleted ones among them."""
    from mlflow.entities import ViewType

    place = [parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    page = client.search_runs(*place, ViewType.ALL)
    runs = list(page)
    while page.token:
        page = client.search_runs(*place, ViewType.ALL, page_token=page.token)
        runs += page
    return runs


def find_trials(client: MlflowClient, runs: list[Run]) -> dict[int, Run]:
    """Finds the runs of trials among those below a study's own, by number.

    A run is known by its name and by its tag `trial`; runs on which the two agree come first. A
    tag that was edited or deleted in MLflow is repaired. Runs without either are the user's own.
    """
    trials: dict[int, Run] = {}
    for run in sorted(runs, key=lambda run: len(set(_numbers(run)))):
        number = next((number for number in _numbers(run) if number not in trials), None)
        if number is None:
            continue
        trials[number] = run
        if run.data.tags.get("trial") != str(number) and not is_deleted(run):
            client.set_tag(run.info.run_id, "trial", str(number))
    return trials


def find_repeats(runs: list[Run]) -> dict[str, Run]:
    """Finds the runs of repeats among those below a study's own, by the name of their folder."""
    named = [(run.info.run_name or "", run) for run in runs]
    return {name.removeprefix(REPEAT): run for name, run in named if name.startswith(REPEAT)}


def _numbers(run: Run) -> list[int]:
    """Returns the trial's number as the name has it, which is edited least, and as the tag has."""
    texts = (run.info.run_name or "", f"trial {run.data.tags.get('trial')}")
    found = (_NAME.fullmatch(text) for text in texts)
    return [int(match[1]) for match in found if match]
