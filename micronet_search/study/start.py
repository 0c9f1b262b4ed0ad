"""The driver's last start, as `start.json` keeps it for MLflow: what it ran on, how it ended."""

import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version

from pydantic import ConfigDict, TypeAdapter, ValidationError

from micronet_search.store.files import read_json, write_json
from micronet_search.store.paths import StudyFolder
from micronet_search.tracking.facts import truth

PACKAGES = ("micronet-search", "torch", "torchvision", "optuna", "mlflow")


@dataclass(frozen=True)
class Start:
    """The driver's last start.

    Attributes:
        environment: What it ran on, as tags; None if that is not known.
        finished: Whether the study was finished at its end; None if the end has not come, or
            the driver was killed.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    environment: dict[str, str] | None = None
    finished: bool | None = None


_STARTS = TypeAdapter(Start)


def write_start(folder: StudyFolder, start: Start) -> None:
    """Writes the file of a study whose lock is held."""
    write_json(folder.start, asdict(start))


def read_start(folder: StudyFolder) -> Start:
    """Reads the file; without it nothing is known.

    Raises:
        ValueError: The file is damaged.
    """
    if not folder.start.exists():
        return Start()
    try:
        return _STARTS.validate_python(read_json(folder.start))
    except ValidationError:
        raise ValueError(
            f"{folder.start} is damaged, expected the driver's last start; `micronet-search run` "
            "writes it anew"
        ) from None


def migrate(folder: StudyFolder) -> None:
    """Takes over the `record.json` that earlier versions kept of a start and of every trial."""
    before = folder.path / "record.json"
    if before.exists():
        before.replace(folder.start)
    for leftover in folder.path.glob("trials/*/record.json"):
        leftover.unlink()


def environment(device: str) -> dict[str, str]:
    """Returns versions, the device, and git's commit of the current folder if it has one."""
    versions = {name: _version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **versions, "device": device, **_commit()}


def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def _commit() -> dict[str, str]:
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return (
        {"commit": commit, "dirty": truth(bool(changes))} if commit and changes is not None else {}
    )


def _git(*arguments: str) -> str | None:
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):  # no git, no repository, no commit yet
        return None
    return done.stdout.strip()
