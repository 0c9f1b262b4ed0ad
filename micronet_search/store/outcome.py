"""How a trial ended: the numbers, and the files that go with them."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from micronet_search.store.files import read_json, write_bytes, write_json
from micronet_search.store.paths import Repeat, StudyFolder, TrialFolder

TRACEBACK = "traceback.txt"  # the result's file that says where a trial failed
_PARTS = {"parameters", "operations", "score"}
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
State = Literal["complete", "stopped", "failed"]  # stopped means early, at a rung
_Accuracy = Annotated[float, Field(ge=0.0, le=1.0)]


@dataclass(frozen=True)
class Epoch:
    """One row of a trial's curve, whose epochs are counted over all stages.

    The loss is the mean on the training split, the accuracy (0 to 1) on the validation split,
    `ended` a Unix time.
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
    """The numbers of a trial that has ended: the content of `outcome.json`.

    Attributes:
        started: The Unix time of the first start.
        ended: The Unix time of the end.
        accuracy: Of the network as shipped, on the validation split; if stopped, at the rung.
        test_accuracy: Of a repeat's network as shipped, on the test split; None for a trial.
        latency_ms: Of a trial, where its study has a goal for the milliseconds of one image.
        scores: For each score rule its `parameters`, `operations` and `score`, measured; for a
            stopped trial, predicted.
        parameters: Before norms are folded.
        nonzeros: In the stored tensors.
        macs: Multiply-accumulates for one image.
        storage_bits: The size of the packed network.
        seconds: The time of each stage.
        base: The number of the trial whose fitted network it compresses; None for its own.
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
    base: int | None = None
    test_accuracy: _Accuracy | None = None
    latency_ms: Annotated[float, Field(gt=0.0)] | None = None

    @property
    def storage_bytes(self) -> int:
        """The bytes of the packed network, rounded up; 0 where they are not known."""
        return -(-(self.storage_bits or 0) // 8)

    def totals(self) -> dict[str, int | None]:
        """Returns the cost of the whole network, by the same names as `Cost.totals`."""
        names = ("parameters", "nonzeros", "macs", "storage_bits")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Returns the outcome as plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, tree: Any) -> Outcome:
        """Returns the outcome that `to_json` wrote; any other tree is a ValueError."""
        try:
            found = _OUTCOMES.validate_python(tree)
        except ValidationError as error:
            wrong = error.errors(include_url=False)[0]
            message = f"{'.'.join(map(str, wrong['loc'])) or 'all of it'}: {wrong['msg']}"
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
    """The outcome of a trial, and the other files of its folder by their names."""

    outcome: Outcome
    files: dict[str, bytes]


def read_outcome(path: Path, score_rule: str | None = None) -> Outcome:
    """Reads an `outcome.json`; one that is damaged is a ValueError.

    If a score rule is given, a trial that did not fail must have its cost and its score by this
    rule.
    """
    tree = read_json(path)
    try:
        found = Outcome.from_json(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if score_rule is None or found.state == "failed":
        return found
    figures = {f"the {score_rule} score": found.scores.get(score_rule), **found.totals()}
    for name, figure in figures.items():
        if figure is None:
            raise ValueError(f"{path}: found a {found.state} trial without {name}, expected one")
    return found


def read_outcomes(study: StudyFolder, score_rule: str) -> dict[int, Outcome]:
    """Returns the outcomes of a study's trials that have ended, by number, like `read_outcome`."""
    return {n: read_outcome(study.trial(n).outcome, score_rule) for n in study.ended()}


def read_repeats(study: StudyFolder, score_rule: str) -> dict[Repeat, Outcome]:
    """Returns the outcomes of a study's repeats that have ended, like `read_outcome`."""
    return {one: read_outcome(study.repeat(one).outcome, score_rule) for one in study.repeats()}


def write_result(folder: TrialFolder, result: Result) -> None:
    """Writes what a trial leaves into its folder; with `outcome.json`, the last, it has ended."""
    for name, content in result.files.items():
        assert Path(name).name == name, name
        write_bytes(folder.path / name, content)
    write_json(folder.outcome, result.outcome.to_json())


def lost(reason: str, traceback: str | None = None) -> Result:
    """Returns the result of a trial that failed outside its training: by its slot or teacher."""
    now = time.time()
    files = {} if traceback is None else {TRACEBACK: traceback.encode()}
    return Result(Outcome("failed", started=now, ended=now, device="none", reason=reason), files)
