"""How an exported network came about, and what it takes to come to it again."""

import platform
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

from micronet_search.store.paths import Repeat
from micronet_search.study.confirmation import Confirmation
from micronet_search.study.queue import seed_of

PACKAGES = ("micronet-search", "torch", "torchvision", "optuna", "onnx", "onnxruntime")


def commands(
    name: str, trial: int, repeat: Repeat | None, found: Confirmation | None, chosen: str
) -> list[str]:
    """Returns the commands that train and export a study's network again.

    A repeat is exported by the options with which `chosen` found it.
    """
    run, export = "micronet-search run sweep.yaml", f"micronet-search export {name}"
    if repeat is None:
        return [run, f"{export} --trial {trial}"]
    seeds = max(found.accuracies, default=repeat.seed) if found else repeat.seed
    full = " --full-train" if repeat.full_train else ""
    return [run, f"micronet-search confirm {name} --seeds {seeds}{full}", f"{export} {chosen}"]


def seed(study: int, trial: int, repeat: Repeat | None) -> int:
    """Returns the seed of a training, which follows from that of the study."""
    return seed_of(study, "repeat", trial, repeat.seed) if repeat else seed_of(study, trial)


def commit(environment: Mapping[str, str]) -> str:
    """Returns git's commit of the folder where a study was started, as a clause."""
    if "commit" not in environment:
        return "not known: the study was started outside of a checkout of git"
    changes = " with changes" if environment.get("dirty") == "true" else ""
    return f"`{environment['commit']}`{changes}, of the folder in which the study was started"


def versions(environment: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Yields Python and packages with the versions of a study, where known, and those of now."""
    yield "Python", environment.get("python", "-"), platform.python_version()
    for name in PACKAGES:
        yield name, environment.get(name, "-"), version(name)


def version(package: str) -> str:
    """Returns the version of a package."""
    try:
        return installed(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"
