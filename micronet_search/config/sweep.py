"""The sweep: what a user asks for, as typed and frozen configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_serializer,
    model_serializer,
    model_validator,
)

from micronet_search.config.execution import MOST_BY_ITSELF as MOST_BY_ITSELF
from micronet_search.config.execution import Execution as Execution
from micronet_search.config.execution import Tracking as Tracking
from micronet_search.config.grammar import parse
from micronet_search.config.model import (
    Fraction,
    Model,
    Name,
    Positive,
    PositiveInt,
    Share,
    either,
)
from micronet_search.config.network import Input
from micronet_search.config.search import Search
from micronet_search.config.training import Teacher
from micronet_search.config.validation import validation_problems


def _is_share_or_whole(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"found {value}, expected a whole number or a fraction below 1")
    return value


_SHARE = {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}
_WHOLE = {"type": "integer", "minimum": 1, "exclusiveMaximum": 2**31}
Validation = Annotated[
    float,
    Field(gt=0, lt=2**31),
    AfterValidator(_is_share_or_whole),
    WithJsonSchema({"anyOf": [_SHARE, _WHOLE]}),
]


class Dataset(Model):
    """Where the images come from.

    Attributes:
        name: `digits` (scikit-learn's, built in), `cifar10` (downloaded on first use), `parquet`
            (`train-*.parquet`, `test-*.parquet`) or `folder` (class folders in `train/`, `test/`).
        root: The folder; not for `digits`, `data` for `cifar10` where it is not given.
        validation: Images taken from the training ones to judge trials by; a fraction below 1 is
            a share of them.
        limit: The most training images that are used, and the most test images: a part with the
            same shares of the classes. Null for all.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "allOf": [
                {
                    "if": {"properties": {"name": {"enum": ["parquet", "folder"]}}},
                    "then": either("root"),
                },
                {
                    "if": {"properties": {"name": {"const": "digits"}}},
                    "then": {"properties": {"root": {"type": "null"}}},
                },
            ]
        }
    )

    name: Literal["digits", "cifar10", "parquet", "folder"]
    root: str | None = None
    validation: Validation = 0.1
    limit: PositiveInt | None = None

    @model_validator(mode="after")
    def _root_where_it_is_read(self) -> Dataset:
        if self.name == "digits" and self.root is not None:
            raise ValueError("found root beside name: digits, expected none, digits are built in")
        if self.name in ("parquet", "folder") and self.root is None:
            raise ValueError(f"root is missing, expected the folder of the {self.name} dataset")
        if self.name == "cifar10" and self.root is None:
            self._settle(root="data")
        return self

    @field_serializer("validation")
    def _images_are_whole(self, validation: float) -> int | float:
        return int(validation) if validation >= 1 else validation


SHAPES = {"digits": Input(channels=1, height=8, width=8), "cifar10": Input()}
"""The images of the datasets that are known before they are read; both have ten classes."""


class AccuracyGoal(Model):
    """The constraint on accuracy, which is maximised above it too.

    Attributes:
        at_least: The accuracy that is asked for. It is required where no baseline is given.
        at_most_below: In its place, how far below that of a baseline it may be. The baseline is
            trained first. Then `at_least`, which is 1 until then, is written into the study's
            `sweep.yaml`.
        of: The baseline: a network and its training, or a trial of another study.
    """

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                either("at_least", but_not=("at_most_below", "of")),
                either("at_most_below", "of"),
            ]
        }
    )

    at_least: Share = 1.0
    at_most_below: Fraction | None = None
    of: Teacher | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> AccuracyGoal:
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        relative = {"at_most_below", "of"}
        if given not in ({"at_least"}, relative, relative | {"at_least"}):
            found = " and ".join(sorted(given)) or "neither"
            raise ValueError(f"found {found}, expected at_least, or at_most_below and of")
        return self

    @model_serializer(mode="wrap")
    def _what_is_given(self, handler: Any) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class ScoreGoal(Model):
    """The score that is minimised, and the ceiling above which candidates are screened.

    Attributes:
        rule: The rule that makes a score from a cost (docs/scores.md).
        at_most: The ceiling.
    """

    rule: Literal["imt", "micronet2019"] = "imt"
    at_most: Positive


class LatencyGoal(Model):
    """The constraint on the time for one image.

    Attributes:
        at_most: The most milliseconds, in ONNX Runtime with one thread on the machine that runs the
            study.
    """

    at_most: Positive


class Objectives(Model):
    """What makes a trial feasible, and what the study improves.

    Attributes:
        accuracy: The goal for the accuracy, which is maximised.
        score: The goal for the score, which is minimised.
        latency: The goal for the time for one image, which has to be met and is not minimised; null
            for none.
    """

    accuracy: AccuracyGoal
    score: ScoreGoal
    latency: LatencyGoal | None = None


class Sweep(Model):
    """What a user asks for: a candidate with some values replaced by distributions, and the rest.

    `candidate` is the tree that `grammar.parse` reads, with every default written out.

    Attributes:
        name: The name of the study, and of its folder.
        dataset: Where the images come from.
        objectives: What makes a trial feasible, and what the study improves.
        candidate: What is searched: a candidate, in which every value can be a distribution.
        search: How the space is searched, and for how long.
        execution: Where trials run.
        tracking: Where Optuna and MLflow keep their records.
    """

    name: Name
    dataset: Dataset
    objectives: Objectives
    candidate: dict[str, Any]
    search: Search
    execution: Execution = Execution()
    tracking: Tracking = Tracking()

    @property
    def space(self) -> Any:
        """The tree of distributions."""
        return parse(self.candidate)

    def dump(self) -> dict[str, Any]:
        """The plain tree of the sweep, every default written out."""
        return self.model_dump(mode="json")

    def portable(self) -> dict[str, Any]:
        """Returns the plain tree without what is true of one machine alone.

        Of the dataset's folder the name is kept.
        """
        tree = self.dump()
        if self.dataset.root is not None:
            tree["dataset"]["root"] = Path(self.dataset.root).name
        return {key: part for key, part in tree.items() if key not in ("execution", "tracking")}

    def override(self, **changes: dict[str, Any]) -> Sweep:
        """Returns the sweep with other options, as in `search={"trials": 3}`; None changes nothing.

        Raises:
            ValueError: A value is not valid; the message names the option as `--OPTION`.
        """
        sweep = self
        for name, options in changes.items():
            part = getattr(self, name)
            given = {option: value for option, value in options.items() if value is not None}
            try:
                changed = type(part).model_validate(part.model_dump() | given)
            except ValidationError as error:
                key, message = validation_problems(error, type(part))[0]
                raise ValueError(f"--{key[0]}: {message}" if key else message) from None
            sweep = sweep.model_copy(update={name: changed})
        return sweep
