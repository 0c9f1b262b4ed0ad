"""One owner of every path that a run leaves behind."""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import TypeAdapter, ValidationError

from micronet_search.config.sweep import Sweep

MODEL_FILE = "model.safetensors"  # the network that a trial or an export ships
FITTED_FILE = "fitted.safetensors"  # the network of a trial after its first fit
VIEWS_FILE = "views.safetensors"  # the outputs of a teacher that students look up
# The pattern of a sweep's name keeps a study inside the root: no separator, no leading dot.
_NAME: TypeAdapter[str] = TypeAdapter(Annotated[str, Sweep.model_fields["name"]])


class _Inside:
    """An attribute of a folder: the path of something directly inside the folder."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, folder: _Folder, owner: type[_Folder]) -> Path:
        return folder.path / self._name


@dataclass(frozen=True)
class _Folder:
    path: Path


class TrialFolder(_Folder):
    """The files of one trial or teacher. The first file that is written makes the folder."""

    candidate = _Inside("candidate.yaml")  # the candidate, with every choice made
    checkpoint = _Inside("checkpoint.safetensors")  # the state from which the trial continues
    model = _Inside(MODEL_FILE)  # the tensors that are shipped
    fitted = _Inside(FITTED_FILE)  # the network after the first fit, where other trials start
    layers = _Inside("layers.csv")  # the cost of each layer
    curve = _Inside("curve.csv")  # the figures of each training epoch
    views = _Inside(VIEWS_FILE)  # of a teacher: its outputs for each view of the training images
    traceback = _Inside("traceback.txt")  # the error of a failed trial
    outcome = _Inside("outcome.json")  # how the trial ended, in numbers
    runtime = _Inside("runtime.json")  # what its exported network takes in ONNX Runtime

    @property
    def artifacts(self) -> tuple[Path, ...]:
        """The files that MLflow keeps with the trial and that exist."""
        named = (self.candidate, self.outcome, self.curve, self.layers, self.model, self.traceback)
        return tuple(file for file in named if file.exists())


class Repeat(NamedTuple):
    """A trial's candidate trained again, with a seed of its own, to confirm what it reached.

    Seeds count from 1. With `full_train` it is trained on the validation images too.
    """

    trial: int
    seed: int
    full_train: bool = False

    def __str__(self) -> str:
        images = " on all training images" if self.full_train else ""
        return f"trial {self.trial} with seed {self.seed}{images}"


_REPEAT = re.compile(r"([0-9]{4,9})-([1-9][0-9]{0,8})(-full)?")


class StudyFolder(_Folder):
    """The files of one study."""

    sweep = _Inside("sweep.yaml")  # the sweep as run, with every default written out
    journal = _Inside("optuna.journal")  # Optuna's storage
    lock = _Inside("driver.lock")  # the file that the operating system locks for the driver
    holder = _Inside("driver.json")  # the process and the host that hold the lock
    clock = _Inside("clock.json")  # the driver's running time over all its starts
    identity = _Inside("study.json")  # the id that tells apart two studies of one name
    dataset = _Inside("dataset.json")  # fingerprints of the images, taken when the study began
    start = _Inside("start.json")  # what the driver's last start ran on, and how it ended

    def trial(self, number: int) -> TrialFolder:
        """Returns the folder of a trial, whether it exists or not."""
        assert number >= 0, number
        return TrialFolder(self.path / "trials" / f"{number:04d}")

    def trials(self) -> list[int]:
        """Returns the numbers of the trials that have a folder, in ascending order."""
        names = _subfolders(self.path / "trials")
        digits = [name for name in names if name.isascii() and name.isdigit()]
        return sorted(int(name) for name in digits if name == f"{int(name):04d}")

    def ended(self) -> list[int]:
        """Returns the numbers of the trials that have ended, in ascending order."""
        return [number for number in self.trials() if self.trial(number).outcome.exists()]

    def repeat(self, repeat: Repeat) -> TrialFolder:
        """Returns the folder of a repeat, whether it exists or not."""
        full = "-full" if repeat.full_train else ""
        return TrialFolder(self.path / "repeats" / f"{repeat.trial:04d}-{repeat.seed}{full}")

    def repeats(self) -> list[Repeat]:
        """Returns the repeats that have ended, in ascending order."""
        found = map(_REPEAT.fullmatch, _subfolders(self.path / "repeats"))
        repeats = [Repeat(int(name[1]), int(name[2]), bool(name[3])) for name in found if name]
        return sorted(one for one in repeats if self.repeat(one).outcome.exists())


class Root(_Folder):
    """The folder that holds every study; `mlruns` by default."""

    mlflow_db = _Inside("mlflow.db")  # MLflow's store, unless the sweep names a server
    artifacts = _Inside("artifacts")  # the artifacts of that store

    def teacher(self, key: str, images: str) -> TrialFolder:
        """Returns the folder of a teacher that studies share, whether it exists or not.

        Args:
            key: Tells it from others that were trained on the same images.
            images: The digest of the training images.
        """
        name = hashlib.sha256(f"{key}/{images}".encode()).hexdigest()[:16]
        return TrialFolder(self.path / "teachers" / name)

    def study(self, name: str) -> StudyFolder:
        """Returns the folder of a study, whether it exists or not. The name is checked."""
        try:
            _NAME.validate_python(name)
        except ValidationError:
            raise ValueError(
                f"{name!r} is no name of a study, expected at most 100 letters, digits and . _ -, "
                "the first one a letter or a digit"
            ) from None
        return StudyFolder(self.path / "studies" / name)

    def started(self, name: str) -> StudyFolder:
        """Returns the folder of a study that has been started."""
        folder = self.study(name)
        if not folder.sweep.exists():
            known = ", ".join(self.studies()) or "none yet"
            raise ValueError(f"no study {name} under {self.path}, expected one of: {known}")
        return folder

    def studies(self) -> list[str]:
        """Returns the names of the studies that have been started, in alphabetical order."""
        found = []
        for name in sorted(_subfolders(self.path / "studies")):
            with suppress(ValueError):  # the folder has no name of a study
                if self.study(name).sweep.exists():
                    found.append(name)
        return found


def _subfolders(path: Path) -> list[str]:
    return [entry.name for entry in path.iterdir() if entry.is_dir()] if path.is_dir() else []
