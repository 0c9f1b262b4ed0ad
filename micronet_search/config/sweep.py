"""The sweep: what a user asks for, as typed and frozen configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_serializer,
    model_serializer,
    model_validator,
)

from micronet_search.config.grammar import parse
from micronet_search.config.loading import describe
from micronet_search.config.model import (
    Fraction,
    Model,
    Name,
    NotNegative,
    Positive,
    PositiveInt,
    Share,
    text_like,
)
from micronet_search.config.network import Input
from micronet_search.config.search import Search
from micronet_search.config.training import Teacher
from micronet_search.config.validation import validation_problems


def _is_share_or_whole(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"found {value}, expected a whole number or a fraction below 1")
    return value


class Dataset(Model):
    """Where the images come from.

    Attributes:
        name: `digits` (scikit-learn's, built in), `cifar10` (downloaded on first use), `parquet`
            (`train-*.parquet`, `test-*.parquet`) or `folder` (class folders in `train/`, `test/`).
        root: The folder; not for `digits`, `data` for `cifar10` where it is not given.
        validation: Images taken from the training ones to judge trials by; a fraction below 1 is
            a share of them.
        limit: Training images used at most, a stratified part of them, test images alike.
    """

    name: Literal["digits", "cifar10", "parquet", "folder"]
    root: str | None = None
    validation: Annotated[float, Field(gt=0, lt=2**31), AfterValidator(_is_share_or_whole)] = 0.1
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
        at_least: The accuracy that is asked for.
        at_most_below: In its place, how far below that of a baseline it may be. The baseline is
            trained first. Then `at_least`, which is 1 until then, is written into the study's
            `sweep.yaml`.
        of: The baseline: a network and its training, or a trial of another study.
    """

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
    """The score that is minimised, and the ceiling above which candidates are screened."""

    rule: Literal["imt", "micronet2019"] = "imt"
    at_most: Positive


class LatencyGoal(Model):
    """The most milliseconds for one image, in ONNX Runtime on the driver's machine, one thread."""

    at_most: Positive


class Objectives(Model):
    """What makes a trial feasible, and what the study improves; the latency is no objective."""

    accuracy: AccuracyGoal
    score: ScoreGoal
    latency: LatencyGoal | None = None


Device = Annotated[str, text_like(r"auto|cpu|cuda(:[0-9]{1,3})?", "auto, cpu, cuda or cuda:N")]


MOST_SLOTS, MOST_BY_ITSELF = 256, 8
"""The most trials that may share a device, and that share it where `auto` is asked for."""


def _is_number_of_slots(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or not 1 <= value <= MOST_SLOTS):
        expected = f"auto, or a whole number, 1 to {MOST_SLOTS}"
        raise ValueError(f"found {describe(value)}, expected {expected}")
    return value


SlotsOfDevice = Annotated[int | Literal["auto"], BeforeValidator(_is_number_of_slots)]


class Execution(Model):
    """Where trials run.

    Attributes:
        engine: `inline` runs them one by one in the driver's process, `ray` several at once, on
            every device and node of a Ray cluster. `auto` takes Ray where it is installed and there
            is more than one slot.
        device: `auto` takes CUDA where there is a device, and `cuda` every one that there is.
        trials_per_device: Trials that share a device: a GPU, or a node's processors. `auto` is one
            for each processor that the device can have for itself, and 8 at most, because trials
            that run at once cannot learn from each other. It needs Ray, and is 1 without.
        address: HOST:PORT of a Ray cluster; null for one of this machine, made for the study.
        retries: How often a trial that crashed is tried again from its last checkpoint.
        checkpoint_minutes: The most training that a crash costs. Checkpoints are written at ends of
            epochs, and at rungs and ends of stages anyway.
    """

    engine: Literal["auto", "inline", "ray"] = "auto"
    device: Device = "auto"
    trials_per_device: SlotsOfDevice = "auto"
    address: str | None = None
    retries: NotNegative = 1
    checkpoint_minutes: Positive = 5.0

    def slots_of_device(self, processors: float) -> int:
        """Returns how many trials share a device that has so many processors for itself."""
        if self.trials_per_device != "auto":
            return self.trials_per_device
        return max(1, min(int(processors), MOST_BY_ITSELF))

    @model_validator(mode="after")
    def _slots_of_ray(self) -> Execution:
        for name, plain in (("trials_per_device", ("auto", 1)), ("address", (None,))):
            found = getattr(self, name)
            if self.engine == "inline" and found not in plain:
                raise ValueError(f"found {name}: {found}, expected engine: ray with it")
        if self.address is not None and self.device.startswith("cuda:"):
            found = f"found device: {self.device} beside an address, expected cuda, cpu or auto"
            raise ValueError(f"{found}: the devices of a cluster are Ray's to give")
        return self


class Tracking(Model):
    """Addresses of the records: files under the root where a field is null."""

    optuna: str | None = None
    mlflow: str | None = None
    artifacts: str | None = None


class Sweep(Model):
    """What a user asks for: a candidate with some values replaced by distributions, and the rest.

    `candidate` is the tree that `grammar.parse` reads, with every default written out.
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
