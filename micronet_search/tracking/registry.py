"""Exported models in MLflow's registry, where `mlflow models serve` and others find them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Sweep
from micronet_search.store.owner import study_id
from micronet_search.store.paths import Root
from micronet_search.tracking import facts
from micronet_search.tracking.client import artifact_location, connect, reported, tracking_uri
from micronet_search.tracking.runs import find_children, find_parent, find_trials

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Entry:
    """An exported model that is registered.

    Attributes:
        trial: The number of the trial that it is of.
        candidate: What it computes.
        model: The content of its ONNX file.
        score: By the rule that its study minimises.
        accuracy: On the test split.
        confirmed: Whether its trial is confirmed.
    """

    trial: int
    candidate: Candidate
    model: bytes
    score: float
    accuracy: float
    confirmed: bool

    @property
    def digest(self) -> str:
        """What tells its file from others."""
        return hashlib.sha256(self.model).hexdigest()[:16]

    def tags(self) -> dict[str, str]:
        """Returns what the registry says of it."""
        return {
            "trial": str(self.trial),
            "score": repr(self.score),
            "test_accuracy": repr(self.accuracy),
            "confirmed": facts.truth(self.confirmed),
            "digest": self.digest,
        }


def register(sweep: Sweep, root: Root, entry: Entry) -> str:
    """Registers a model under the name of its study, unless it is registered, and sets the aliases.

    `champion` is the confirmed model of the lowest score, `challenger` the newest of the others.

    Returns:
        The version, with its aliases, for the user.

    Raises:
        ValueError: MLflow does not know the trial.
        TrackingError: MLflow does not answer, or refuses.
    """
    uri, folder = tracking_uri(sweep.tracking, root), root.study(sweep.name)
    location = artifact_location(sweep.tracking, root, sweep.name)
    client = connect(uri)
    with reported(uri):
        parent = find_parent(client, uri, location, folder, study_id(folder))
        trials = find_trials(client, find_children(client, parent))
        if entry.trial not in trials:
            raise ValueError(
                f"found no run of trial {entry.trial} in MLflow, expected it recorded: "
                f"`micronet-search sync {sweep.name}` records it"
            )
        if not client.search_registered_models(f"name = '{sweep.name}'"):
            client.create_registered_model(sweep.name)
        known = _versions(client, sweep.name)
        mine = next((one for one in known if one.tags.get("digest") == entry.digest), None)
        if mine is None:
            run = trials[entry.trial].info.run_id
            source = f"onnx/{entry.digest}"
            with TemporaryDirectory() as place:
                _save(entry, Path(place) / "model")
                client.log_artifacts(run, f"{place}/model", source)
            mine = client.create_model_version(
                sweep.name, f"runs:/{run}/{source}", run, tags=entry.tags()
            )
        aliases = _set_aliases(client, sweep.name)
    names = [f", {alias}" for alias, version in aliases.items() if version == mine.version]
    return f"registered as {sweep.name}, version {mine.version}{''.join(names)}"


def _save(entry: Entry, path: Path) -> None:
    """Writes a model as MLflow has it, with what its input and its output are."""
    import mlflow.onnx
    import onnx
    import onnxruntime
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    image = entry.candidate.input
    pixels = (-1, image.channels, image.height, image.width)
    inputs = Schema([TensorSpec(np.dtype(np.uint8), pixels, "image")])
    classes = (-1, entry.candidate.classes)
    outputs = Schema([TensorSpec(np.dtype(np.float32), classes, "logits")])
    mlflow.onnx.save_model(
        onnx.load_model_from_string(entry.model),
        path,
        signature=ModelSignature(inputs, outputs),
        pip_requirements=[f"onnx=={onnx.__version__}", f"onnxruntime=={onnxruntime.__version__}"],
        save_as_external_data=False,
    )


def _versions(client: MlflowClient, name: str) -> list[ModelVersion]:
    """Returns the versions of a model, oldest first."""
    found = client.search_model_versions(f"name = '{name}'")
    return sorted(found, key=lambda version: int(version.version))


def _set_aliases(client: MlflowClient, name: str) -> dict[str, str]:
    """Sets the aliases by what the versions say of themselves, and returns them."""
    versions = _versions(client, name)
    confirmed = [one for one in versions if one.tags.get("confirmed") == "true"]
    aliases: dict[str, str] = {}
    if confirmed:
        best = min(confirmed, key=lambda one: (float(one.tags["score"]), int(one.version)))
        aliases[CHAMPION] = best.version
    if others := [one.version for one in versions if one.version not in aliases.values()]:
        aliases[CHALLENGER] = others[-1]
    for alias in (CHAMPION, CHALLENGER):
        if alias in aliases:
            client.set_registered_model_alias(name, alias, aliases[alias])
        else:
            client.delete_registered_model_alias(name, alias)
    return aliases
