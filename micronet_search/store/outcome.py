"""How a trial ended: the numbers, and the files that go with them."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from micronet_search.store.files import read_json
from micronet_search.store.paths import StudyFolder

TRACEBACK = "traceback.txt"
"""The file of a result that says where a trial failed."""

_PARTS = {"parameters", "operations", "score"}
_COUNTED = ("parameters", "nonzeros", "macs", "storage_bits")
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
State = Literal["complete", "stopped", "failed"]
"""How a trial can end."""
_Accuracy = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class Epoch:
    """One row of a trial's curve.

    Attributes:
        epoch: Epochs trained so far, over all stages.
        stage: The stage that it belongs to: fit, thin, factorize, prune or quantize.
        loss: Mean training loss.
        accuracy: Accuracy on the validation split, 0 to 1.
        seconds: Time that it took.
        ended: Unix time at its end.
    """

    __pydantic_config__ = _STRICT

    epoch: int
    stage: str
    loss: float
    accuracy: _Accuracy
    seconds: float
    ended: float


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, in numbers: the content of `outcome.json`.

    Attributes:
        state: `complete`; `stopped` at a rung; `failed`.
        reason: Why it was stopped or failed.
        accuracy: On the validation split: the shipped network's, a stopped one's at its rung.
        scores: For each rule its `parameters`, `operations` and `score`; measured, or for a
            stopped trial predicted.
        parameters: Of the network before folding.
        nonzeros: Of all stored tensors.
        macs: Multiply-accumulates for one image.
        storage_bits: Bits of the packed network.
        seconds: Time of each stage.
        started: Unix time of the first start.
        ended: Unix time of the end.
        device: Where it ran.
        curve: A row per epoch.
    """

    __pydantic_config__ = _STRICT

    state: State
    started: float
    ended: float
    device: str
    reason: str | None = None
    accuracy: _Accuracy | None = None
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    parameters: int | None = None
    nonzeros: int | None = None
    macs: int | None = None
    storage_bits: int | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    curve: tuple[Epoch, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: dict[str, Any]) -> Outcome:
        """The outcome that `to_json` wrote.

        Raises:
            ValueError: The tree is none that `to_json` writes.
        """
        try:
            found = _OUTCOMES.validate_python(tree)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            place = ".".join(map(str, wrong["loc"])) or "all of it"
            message = f"{place}: {wrong['msg']}"
            raise ValueError(f"found no outcome of a trial, {message.lower()}") from None
        if found.state != "failed" and found.accuracy is None:
            raise ValueError(f"found a {found.state} trial without an accuracy, expected one")
        for rule, parts in found.scores.items():
            if parts.keys() != _PARTS:
                raise ValueError(f"found {sorted(parts)} for {rule}, expected {sorted(_PARTS)}")
        return found


_OUTCOMES = TypeAdapter(Outcome)


@dataclass(frozen=True)
class Result:
    """What a trial leaves.

    Attributes:
        outcome: The numbers.
        files: By name, for the trial's folder.
    """

    outcome: Outcome
    files: dict[str, bytes]


def read_outcome(path: Path, rule: str | None = None) -> Outcome:
    """How a trial ended, from its file.

    Args:
        path: Of the file.
        rule: Of the score that the trial's study minimises, where the figures are to be there.

    Raises:
        ValueError: The file is damaged, or is none of such a trial.
    """
    tree = read_json(path)
    try:
        found = Outcome.from_json(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if rule is None or found.state == "failed":
        return found
    counted = {name: getattr(found, name) for name in _COUNTED}
    for name, figure in {f"the {rule} score": found.scores.get(rule), **counted}.items():
        if figure is None:
            raise ValueError(f"{path}: found a {found.state} trial without {name}, expected one")
    return found


def read_outcomes(study: StudyFolder, rule: str) -> dict[int, Outcome]:
    """How the trials of a study ended that have, by number.

    Args:
        study: Where they are.
        rule: Of the score that the study minimises.

    Raises:
        ValueError: A file is damaged.
    """
    return {number: read_outcome(study.trial(number).outcome, rule) for number in study.ended()}


def lost(reason: str, traceback: str | None = None) -> Result:
    """The result of a trial that failed outside of its training: its slot died, or its teacher did.

    Args:
        reason: One line.
        traceback: What is known of the failure.
    """
    now = time.time()
    files = {} if traceback is None else {TRACEBACK: traceback.encode()}
    return Result(Outcome("failed", started=now, ended=now, device="none", reason=reason), files)
