"""What must stay the same over all starts of a study: its sweep, its images and its storage."""

import difflib
import socket
from collections.abc import Callable
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path

import optuna
from pydantic import TypeAdapter, ValidationError

from micronet_search.config.files import dump_yaml
from micronet_search.config.sweep import Sweep
from micronet_search.data.splits import Fingerprint
from micronet_search.store.files import read_json, write_json, write_text
from micronet_search.store.owner import study_id
from micronet_search.store.paths import StudyFolder
from micronet_search.tracking.client import masked

Fingerprints = dict[str, Fingerprint]
"""The fingerprint of each split, by its name."""


def resumed(
    sweep: Sweep, before: Sweep, ended: int, new_total: bool, tell: Callable[[str], None]
) -> Sweep:
    """Returns the sweep with which a study goes on.

    Args:
        sweep: The sweep that the user gives now.
        before: The sweep of the last start.
        ended: The number of trials that have ended.
        new_total: Whether the total of trials that the user gives now replaces a higher one.
        tell: Receives a line for each value that is kept from the last start.
    """
    search = sweep.search
    total = max(search.trials, ended, 0 if new_total else before.search.trials)
    if total != search.trials:
        tell(f"the total is {total} trials: that many have ended, or were asked for before")
    early, known = search.early_stopping, before.search.early_stopping
    if early.first_rung == "auto" and early.first_rung != known.first_rung:
        # Versions before there was `auto` wrote a number.
        early = early.model_copy(update={"first_rung": known.first_rung})
        if early.rule:
            tell(f"first_rung stays {early.first_rung}, as the study was started with it")
    source, begun = search.start_from, before.search.start_from
    if source and begun and (source.study, source.trials) == (begun.study, None):
        source = begun  # whatever is on that study's front by now
    update = {"trials": total, "early_stopping": early, "start_from": source}
    search = search.model_copy(update=update)
    return sweep.model_copy(update={"search": search})


def refuse_other_sweep(before: Sweep, sweep: Sweep) -> None:
    """Compares the parts of two sweeps that decide how trials come out.

    Raises:
        ValueError: A part has changed; the message shows the difference.
    """
    old, new = (_fixed(found) for found in (before, sweep))
    lines = list(difflib.unified_diff(old, new, "as run", "now", n=0, lineterm=""))
    if lines:
        raise ValueError(
            f"the sweep differs from the one that the study {sweep.name} was started with; "
            "expected the same but for accuracy.at_least, trials, hours, stop_when, keep_hours, "
            "execution, tracking and the dataset's folder, or another name:\n"
            + "\n".join(line for line in lines if not line.startswith("@@"))
        )


def _fixed(sweep: Sweep) -> list[str]:
    tree = sweep.dump()
    search = tree["search"]
    del tree["execution"], tree["tracking"], search["trials"], search["hours"]
    del tree["objectives"]["accuracy"], tree["dataset"]["root"]
    del search["early_stopping"]["keep_hours"], search["stop_when"]
    # The folder of a file may be another one now.
    search["start_with"] = [Path(path).name for path in search["start_with"]]
    return dump_yaml(tree).splitlines()


def keep(folder: StudyFolder, sweep: Sweep, fingerprints: Fingerprints) -> None:
    """Writes down the sweep and the images that later starts are compared with."""
    text = dump_yaml(sweep.dump())
    write_text(folder.sweep, text, private=masked(text) != text)  # passwords are for the owner
    write_json(folder.dataset, {name: asdict(split) for name, split in fingerprints.items()})


def refuse_other_images(folder: StudyFolder, fingerprints: Fingerprints) -> None:
    """Compares the images with those that the earlier trials of the study were trained on.

    Raises:
        ValueError: Images or labels were added, removed or changed, or the file is damaged.
    """
    if not folder.dataset.exists():
        return
    known = read_fingerprints(folder)
    for name, split in fingerprints.items():
        if split != known[name]:
            raise ValueError(
                f"dataset: found other {name} images or labels than when the study began "
                f"({_difference(split, known[name])}), expected the same, or another name for the "
                "sweep"
            )


def read_fingerprints(folder: StudyFolder) -> Fingerprints:
    """Returns the fingerprints of the images that a study's trials are trained on.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        known = TypeAdapter(Fingerprints).validate_python(read_json(folder.dataset))
    except ValidationError:
        known = {}
    if known.keys() != {"train", "validation", "test"}:
        raise ValueError(f"{folder.dataset} is damaged, expected the fingerprints of three splits")
    return known


def training_digest(folder: StudyFolder) -> str | None:
    """Returns the digest of a study's training images; None where it is not known."""
    return read_fingerprints(folder)["train"].digest if folder.dataset.exists() else None


def _difference(found: Fingerprint, expected: Fingerprint) -> str:
    counts = enumerate(zip_longest(found.sizes, expected.sizes, fillvalue=0))
    lines = [f"class {c} has {n:,} in place of {m:,}" for c, (n, m) in counts if n != m]
    return ", ".join(lines) or "as many of each class"


def refuse_other_storage(folder: StudyFolder, study: optuna.Study) -> None:
    """Checks that Optuna's storage knows every trial in the study's folder.

    Raises:
        ValueError: It lacks some, so that new trials would get their numbers and overwrite them.
    """
    known = {trial.number for trial in study.get_trials(deepcopy=False)}
    lost = sorted(set(folder.trials()) - known)
    if lost:
        raise ValueError(
            f"found trials in {folder.path} that Optuna's storage does not know, {lost[0]} first; "
            "expected the storage that they are from, or another name for the sweep"
        )


def claim(folder: StudyFolder, study: optuna.Study) -> None:
    """Writes into a shared storage that the study belongs to this folder.

    Raises:
        ValueError: The study belongs to another folder.
    """
    owner = study.user_attrs.get("owner")
    if owner is None:
        here = f"{socket.gethostname()}:{folder.path.absolute()}"
        study.set_user_attr("owner", {"id": study_id(folder), "folder": here})
    elif not folder.identity.exists() or owner["id"] != study_id(folder):
        raise ValueError(
            f"tracking.optuna: found the study {study.study_name} of {owner['folder']}, expected "
            "one of this root: choose another name, or another database"
        )
