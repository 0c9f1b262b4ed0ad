"""The environment of a study, as tags."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version

from micronet_search.tracking.rows import truth

PACKAGES = ("micronet-search", "torch", "torchvision", "optuna", "mlflow")


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
