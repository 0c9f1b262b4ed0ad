"""One owner of every path that a run leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import TypeAdapter, ValidationError

from micronet_search.config.sweep import Sweep

MODEL_FILE = "model.safetensors"
"""The file of the network that a trial or an export ships."""

# The pattern of a sweep's name, which keeps a study inside the root: no separator, no leading dot.
_NAME: TypeAdapter[str] = TypeAdapter(Annotated[str, Sweep.model_fields["name"]])


@dataclass(frozen=True)
class TrialFolder:
    """The files of one trial.

    Attributes:
        path: The folder, which is made by the first file that is written into it.
    """

    path: Path

    @property
    def candidate(self) -> Path:
        """The candidate with every choice made."""
        return self.path / "candidate.yaml"

    @property
    def checkpoint(self) -> Path:
        """Where an unfinished trial goes on."""
        return self.path / "checkpoint.safetensors"

    @property
    def model(self) -> Path:
        """The tensors that are shipped."""
        return self.path / MODEL_FILE

    @property
    def layers(self) -> Path:
        """The cost, a layer at a time."""
        return self.path / "layers.csv"

    @property
    def curve(self) -> Path:
        """The training, an epoch at a time."""
        return self.path / "curve.csv"

    @property
    def traceback(self) -> Path:
        """Where a failed trial failed."""
        return self.path / "traceback.txt"

    @property
    def outcome(self) -> Path:
        """How the trial ended, in numbers."""
        return self.path / "outcome.json"

    @property
    def artifacts(self) -> tuple[Path, ...]:
        """The files that MLflow keeps with the trial, where they exist."""
        named = (self.candidate, self.outcome, self.curve, self.layers, self.model)
        return (*named, self.traceback)


@dataclass(frozen=True)
class StudyFolder:
    """The files of one study.

    Attributes:
        path: The folder.
    """

    path: Path

    @property
    def sweep(self) -> Path:
        """The sweep as run, with every default written out."""
        return self.path / "sweep.yaml"

    @property
    def journal(self) -> Path:
        """Optuna's storage."""
        return self.path / "optuna.journal"

    @property
    def lock(self) -> Path:
        """What the operating system locks for the driver."""
        return self.path / "driver.lock"

    @property
    def holder(self) -> Path:
        """Who holds the lock."""
        return self.path / "driver.json"

    @property
    def clock(self) -> Path:
        """The hours that the driver has used over all its starts."""
        return self.path / "clock.json"

    @property
    def identity(self) -> Path:
        """What tells this study from another one of the same name."""
        return self.path / "study.json"

    @property
    def dataset(self) -> Path:
        """What the dataset was like when the study began."""
        return self.path / "dataset.json"

    @property
    def start(self) -> Path:
        """What the driver's last start ran on, and how it ended."""
        return self.path / "start.json"

    def trial(self, number: int) -> TrialFolder:
        """The folder of a trial, whether it exists or not."""
        assert number >= 0, number
        return TrialFolder(self.path / "trials" / f"{number:04d}")

    def trials(self) -> list[int]:
        """The numbers of the trials that have a folder, in their order."""
        found = [path.name for path in _folders(self.path / "trials")]
        return sorted(
            int(name)
            for name in found
            if name.isascii() and name.isdigit() and name == f"{int(name):04d}"
        )

    def ended(self) -> list[int]:
        """The numbers of the trials that have ended, in their order."""
        return [number for number in self.trials() if self.trial(number).outcome.exists()]


@dataclass(frozen=True)
class Root:
    """The folder that holds every study.

    Attributes:
        path: The folder, `mlruns` by default.
    """

    path: Path

    @property
    def mlflow_db(self) -> Path:
        """MLflow's store, where no server is named."""
        return self.path / "mlflow.db"

    @property
    def artifacts(self) -> Path:
        """The artifacts of that store."""
        return self.path / "artifacts"

    def teacher(self, key: str) -> TrialFolder:
        """The folder of a network that is trained once and shared, whether it exists or not."""
        assert key.isalnum(), key
        return TrialFolder(self.path / "teachers" / key)

    def study(self, name: str) -> StudyFolder:
        """The folder of a study, whether it exists or not.

        Raises:
            ValueError: The name is none that a sweep can have.
        """
        if not _is_name(name):
            raise ValueError(
                f"{name!r} is no name of a study, expected at most 100 letters, digits and . _ -, "
                "the first one a letter or a digit"
            )
        return StudyFolder(self.path / "studies" / name)

    def started(self, name: str) -> StudyFolder:
        """The folder of a study that has been started.

        Raises:
            ValueError: There is no such study.
        """
        folder = self.study(name)
        if not folder.sweep.exists():
            known = ", ".join(self.studies()) or "none yet"
            raise ValueError(f"no study {name} under {self.path}, expected one of: {known}")
        return folder

    def studies(self) -> list[str]:
        """The names of the studies that have been started, in alphabetical order."""
        found = [path.name for path in _folders(self.path / "studies")]
        return sorted(name for name in found if _is_name(name) and self.study(name).sweep.exists())


def _is_name(name: str) -> bool:
    try:
        _NAME.validate_python(name)
    except ValidationError:
        return False
    return True


def _folders(path: Path) -> list[Path]:
    return [entry for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
