"""A complete trial as a folder that runs elsewhere, or nothing at all."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import onnx

from micronet_search import build, mnz
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml, load_stored_sweep
from micronet_search.config.loading import describe, read_bytes
from micronet_search.config.sweep import Sweep
from micronet_search.data.splits import Splits
from micronet_search.export import card, check, onnx_model, packed, program
from micronet_search.export.check import Agreement
from micronet_search.export.onnx_writer import OPSET_INT2
from micronet_search.score.rules import scores
from micronet_search.shipped import MAX_BYTES, load
from micronet_search.store.files import write_bytes
from micronet_search.store.outcome import Outcome, read_outcome, read_repeats
from micronet_search.store.owner import study_id
from micronet_search.store.paths import MODEL_FILE, StudyFolder, TrialFolder
from micronet_search.study.confirmation import Confirmation
from micronet_search.study.repeats import read_confirmations
from micronet_search.tracking.registry import Entry

ONNX, PROGRAM, PACKED, READER = "model.onnx", "model.pt2", "model.mnz", "mnz.py"
CANDIDATE, CARD = "candidate.yaml", "README.md"
FILES = {ONNX, PROGRAM, PACKED, READER, MODEL_FILE, CANDIDATE, CARD}
"""What an export holds."""


@dataclass(frozen=True)
class Exported:
    """An export: its folder, what it is of, how its networks agree, and what is odd about it.

    `packed` and `counted` are the bytes of the packed file, and those that the score counts.
    """

    path: Path
    trial: int
    candidate: Candidate
    score: float
    agreement: Agreement
    doubt: str | None
    packed: int
    counted: int

    def entry(self, confirmed: bool) -> Entry:
        """Returns what MLflow's registry is told of it."""
        model = (self.path / ONNX).read_bytes()
        accuracy = self.agreement.onnx_accuracy
        return Entry(self.trial, self.candidate, model, self.score, accuracy, confirmed)

    def __str__(self) -> str:
        found = self.agreement
        warning = f"\nwarning: {self.doubt}" if self.doubt else ""
        sizes = f"{PACKED} has {self.packed:,} bytes, the score counts {self.counted:,}"
        return (
            f"{self.path}: test accuracy {found.onnx_accuracy:.2%} on {found.images} images, "
            f"{found.differing} of them predicted otherwise by the PyTorch network; "
            f"{sizes}{warning}"
        )


def export_trial(
    trial: TrialFolder, splits: Splits, destination: Path, opset: int = OPSET_INT2
) -> Exported:
    """Ships a trial as `model.onnx`, `model.pt2`, `model.mnz` and `model.safetensors`, with a card.

    The ONNX file is run over the whole test split first. The destination is made whole or not at
    all; an earlier export of the same study is replaced, anything else is a ValueError. `opset` is
    the newest that the ONNX file may use.

    Raises:
        ExportError: The ONNX file is not valid, does not run, or predicts too many test images
            otherwise than the network.
        ValueError: The trial has no model, or the dataset is another one.
    """
    destination, study = destination.resolve(), StudyFolder(trial.path.parents[1])
    # a study from before MLflow was told at every start may have none
    identity = study_id(study) if study.identity.exists() else ""
    _refuse_foreign(destination, identity)
    files, facts = _prepare(trial, load_stored_sweep(study.sweep), identity, splits, opset)
    _place(files, destination)
    score = scores(facts.cost)[facts.sweep.objectives.score.rule].score
    sizes = len(files[PACKED]), -(-facts.cost.storage_bits // 8)
    found = facts.agreement, facts.doubt
    return Exported(destination, facts.trial, facts.candidate, score, *found, *sizes)


def _refuse_foreign(destination: Path, study: str) -> None:
    """Refuses to replace anything but an earlier export of the same study, or an empty folder."""
    if not destination.exists():
        return
    names = {entry.name for entry in destination.iterdir()} if destination.is_dir() else {""}
    found: dict[str, str] = {}
    if names <= FILES:
        with suppress(Exception):  # on damaged bytes protobuf raises what is no class of ours
            model = onnx.load_model_from_string(read_bytes(destination / ONNX, MAX_BYTES))
            found = {entry.key: entry.value for entry in model.metadata_props}
    if not names or found.get("study") == study:
        return
    what = "something that is no export"
    if "candidate" in found:
        what = f"an export of {describe(found['candidate'])} of another study"
    raise ValueError(
        f"found {what} in {destination}, expected an earlier export of this study, or a folder yet "
        "to be made: name another one with --to"
    )


def _complete(trial: TrialFolder) -> Outcome:
    outcome = read_outcome(trial.outcome) if trial.outcome.exists() else None
    if outcome is None or outcome.state != "complete" or not trial.model.exists():
        state = "nothing" if outcome is None else f"a {outcome.state} trial"
        raise ValueError(f"found {state} in {trial.path}, expected a complete trial with its model")
    return outcome


def _prepare(
    trial: TrialFolder, sweep: Sweep, study: str, splits: Splits, opset: int
) -> tuple[dict[str, bytes], card.Facts]:
    outcome, shipped = _complete(trial), load(trial.model)
    number = int(trial.path.name.split("-")[0])  # the folder of a repeat has its seed behind it
    assert outcome.accuracy is not None
    candidate = shipped.candidate
    if (candidate.input, candidate.classes) != (splits.input, splits.classes):
        raise ValueError(
            f"found a dataset with {splits.classes} classes and images of {splits.input}, expected "
            f"the trial's {candidate.classes} and {candidate.input}"
        )
    cost = build.predict(candidate).measured(shipped.tensors)
    names = splits.names or tuple(map(str, range(splits.classes)))
    metadata = {
        "candidate": f"{sweep.name}/{trial.path.name}",
        "study": study,
        **card.metadata(candidate.input, names),
        "validation_accuracy": str(outcome.accuracy),
        **{f"score.{rule}": str(found.score) for rule, found in scores(cost).items()},
    }
    files = {ONNX: onnx_model.write(shipped, metadata, opset), MODEL_FILE: trial.model.read_bytes()}
    agreement = check.compare(files[ONNX], shipped, splits.test)
    files[PROGRAM] = program.write(shipped, splits.test)
    files[PACKED] = packed.write(shipped, splits.test)
    files[READER] = Path(mnz.__file__).read_bytes()
    facts = card.Facts(
        sweep=sweep,
        trial=number,
        candidate=candidate,
        names=names,
        outcome=outcome,
        plan=shipped.plan,
        cost=cost,
        agreement=agreement,
        doubt=check.doubt(agreement, outcome.accuracy, len(splits.validation)),
        sizes={name: len(content) for name, content in files.items()},
        confirmation=_confirmation(StudyFolder(trial.path.parents[1]), sweep, number),
    )
    files[CANDIDATE] = dump_yaml(candidate.model_dump(mode="json")).encode()
    files[CARD] = card.write(facts).encode()
    return files, facts


def _confirmation(study: StudyFolder, sweep: Sweep, trial: int) -> Confirmation | None:
    repeats = read_repeats(study, sweep.objectives.score.rule)
    return read_confirmations(study, repeats).get(trial)


def _place(files: dict[str, bytes], destination: Path) -> None:
    """Writes a folder beside the destination and renames it; a failure leaves all as it was."""
    missing = [parent for parent in destination.parents if not parent.exists()]
    new = destination.with_name(f".{destination.name}.{os.getpid()}.tmp")
    old = new.with_suffix(".old")
    try:
        for name, content in files.items():
            write_bytes(new / name, content)
        if destination.exists():
            os.rename(destination, old)
        os.rename(new, destination)
    except BaseException:
        if old.exists() and not destination.exists():
            os.rename(old, destination)
        shutil.rmtree(new, ignore_errors=True)
        with suppress(OSError):
            for parent in missing:
                parent.rmdir()
        raise
    shutil.rmtree(old, ignore_errors=True)
