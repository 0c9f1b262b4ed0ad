"""A complete trial as a folder that runs elsewhere, or nothing at all."""

import os
import shutil
import time
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
from micronet_search.export import card, check, packed, picture, program
from micronet_search.export.check import Agreement
from micronet_search.export.onnx_size import OnnxSize, onnx_size
from micronet_search.runtime import OPSET_NEWEST, latency, onnx_model
from micronet_search.scoring.cost import Cost
from micronet_search.scoring.rules import scores
from micronet_search.shipped import MAX_BYTES, Shipped, load
from micronet_search.store.files import write_bytes
from micronet_search.store.outcome import Outcome, read_outcome, read_repeats
from micronet_search.store.owner import study_id
from micronet_search.store.paths import MODEL_FILE, StudyFolder, TrialFolder
from micronet_search.store.runtime import Runtime, write_runtime
from micronet_search.study.confirmation import Confirmation
from micronet_search.study.repeats import read_confirmations
from micronet_search.study.start import read_start
from micronet_search.tracking.registry import Entry

ONNX, PROGRAM, PACKED, READER = "model.onnx", "model.pt2", "model.mnz", "mnz.py"
CANDIDATE, SWEEP, CARD, PICTURE = "candidate.yaml", "sweep.yaml", "README.md", "cost.png"
FILES = {ONNX, PROGRAM, PACKED, READER, MODEL_FILE, CANDIDATE, SWEEP, CARD, PICTURE}
"""What an export holds."""


@dataclass(frozen=True)
class Exported:
    """An export: its folder, what it is of, how its networks agree, and what is odd about it.

    `packed` is the bytes of the packed file, `onnx` what the ONNX file is made of, and `runtime`
    what `runtime.latency.measure` says.
    """

    path: Path
    trial: int
    candidate: Candidate
    score: float
    agreement: Agreement
    doubt: str | None
    packed: int
    onnx: OnnxSize
    runtime: dict[str, float]

    def entry(self, confirmed: bool) -> Entry:
        """Returns what MLflow's registry is told of it."""
        model = (self.path / ONNX).read_bytes()
        accuracy = self.agreement.onnx_accuracy
        return Entry(self.trial, self.candidate, model, self.score, accuracy, confirmed)

    def __str__(self) -> str:
        found = self.agreement
        warning = f"\nwarning: {self.doubt}" if self.doubt else ""
        size = self.onnx
        sizes = (
            f"{PACKED} has {self.packed:,} bytes, the score counts {size.counted:,}; {ONNX} has "
            f"{size.total:,}, {size.wider:,} more for zeros and wider types and {size.graph:,} for "
            "its graph"
        )
        own, floats = (self.runtime[f"{kind}latency_ms"] for kind in ("", "float_"))
        latency = f"one image takes {own:.3g} ms in ONNX Runtime, {floats:.3g} ms in floats"
        return (
            f"{self.path}: test accuracy {found.onnx_accuracy:.2%} on {found.images} images, "
            f"{found.differing} of them predicted otherwise by the PyTorch network; "
            f"{sizes}; {latency}{warning}"
        )


def export_trial(
    trial: TrialFolder,
    splits: Splits,
    destination: Path,
    opset: int = OPSET_NEWEST,
    chosen: str = "--front",
) -> Exported:
    """Ships a trial as `model.onnx`, `model.pt2`, `model.mnz` and `model.safetensors`, with a card.

    The ONNX file is run over the whole test split first. The destination is made whole or not at
    all; an earlier export of the same study is replaced, anything else is a ValueError. `opset` is
    the newest that the ONNX file may use; `chosen` has the options of `export` that the card names.
    What that file takes to run is kept in the trial's folder for MLflow, if that can be written.

    Raises:
        ExportError: The ONNX file is not valid, does not run, or predicts too many test images
            otherwise than the network.
        ValueError: The trial has no model, or the dataset is another one.
    """
    destination, study = destination.resolve(), StudyFolder(trial.path.parents[1])
    # a study from before MLflow was told at every start may have none
    identity = study_id(study) if study.identity.exists() else ""
    _refuse_foreign(destination, identity)
    files, facts = _prepare(trial, load_stored_sweep(study.sweep), identity, splits, opset, chosen)
    _place(files, destination)
    with suppress(OSError):  # the study may be somebody else's, or on a disk that is full
        write_runtime(study.trial(facts.trial).runtime, Runtime(time.time(), facts.runtime))
    score = scores(facts.cost)[facts.sweep.objectives.score.rule].score
    found = facts.agreement, facts.doubt, len(files[PACKED]), facts.onnx, facts.runtime
    return Exported(destination, facts.trial, facts.candidate, score, *found)


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
    trial: TrialFolder, sweep: Sweep, study: str, splits: Splits, opset: int, chosen: str
) -> tuple[dict[str, bytes], card.Facts]:
    outcome, shipped = _complete(trial), load(trial.model)
    candidate, folder = shipped.candidate, StudyFolder(trial.path.parents[1])
    if (candidate.input, candidate.classes) != (splits.input, splits.classes):
        raise ValueError(
            f"found a dataset with {splits.classes} classes and images of {splits.input}, expected "
            f"the trial's {candidate.classes} and {candidate.input}"
        )
    assert outcome.accuracy is not None
    cost = build.predict(candidate).measured(shipped.tensors)
    names = splits.names or tuple(map(str, range(splits.classes)))
    metadata = {"candidate": f"{sweep.name}/{trial.path.name}", "study": study}
    metadata |= card.metadata(candidate.input, names) | _figures(outcome.accuracy, cost)
    files, agreement = _models(shipped, metadata, splits, opset)
    files[MODEL_FILE] = trial.model.read_bytes()
    judged = len(splits.validation)
    repeat = next((one for one in folder.repeats() if folder.repeat(one) == trial), None)
    number = repeat.trial if repeat else int(trial.path.name)
    facts = card.Facts(
        sweep=sweep,
        trial=number,
        candidate=candidate,
        names=names,
        outcome=outcome,
        plan=shipped.plan,
        cost=cost,
        agreement=agreement,
        doubt=check.doubt(agreement, outcome.accuracy, judged),
        sizes={name: len(content) for name, content in files.items()},
        runtime=latency.measure(shipped, files[ONNX]),
        onnx=onnx_size(files[ONNX], cost),
        splits={"training": len(splits.train), "validation": judged, "test": len(splits.test)},
        repeat=repeat,
        confirmation=_confirmation(folder, sweep, number),
        environment=read_start(folder).environment,
        chosen=chosen,
    )
    return files | _texts(facts), facts


def _figures(validation: float, cost: Cost) -> dict[str, str]:
    """Returns the accuracy that the search saw, and every score with its parts, by name."""
    figures = {"validation_accuracy": validation}
    for rule, found in scores(cost).items():
        figures[f"score.{rule}"] = found.score
        figures[f"score.{rule}.parameters"] = found.parameters
        figures[f"score.{rule}.operations"] = found.operations
    return {name: str(figure) for name, figure in figures.items()}


def _models(
    shipped: Shipped, metadata: dict[str, str], splits: Splits, opset: int
) -> tuple[dict[str, bytes], Agreement]:
    """Returns the files that run, and how the ONNX file did on the test split."""
    measured = onnx_model.write(shipped, metadata, opset)
    agreement = check.compare(measured, shipped, splits.test)
    metadata = {**metadata, "test_accuracy": str(agreement.onnx_accuracy)}  # of the same graph
    files = {
        ONNX: onnx_model.write(shipped, metadata, opset),
        PROGRAM: program.write(shipped, splits.test),
        PACKED: packed.write(shipped, splits.test),
        READER: Path(mnz.__file__).read_bytes(),
    }
    return files, agreement


def _texts(facts: card.Facts) -> dict[str, bytes]:
    """Returns the card with its picture, and the files that tell how to come to the network."""
    sweep = facts.sweep
    return {
        CANDIDATE: dump_yaml(facts.candidate.model_dump(mode="json")).encode(),
        SWEEP: dump_yaml(sweep.portable()).encode(),
        PICTURE: picture.draw(facts.cost, sweep.objectives.score.rule),
        CARD: card.write(facts).encode(),
    }


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
