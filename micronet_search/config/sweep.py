"""The sweep: what a user asks for, as typed and frozen configuration."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    field_serializer,
    model_validator,
)

from micronet_search.config import distributions
from micronet_search.config.loading import describe
from micronet_search.config.model import Fraction, Model, Name, PositiveInt
from micronet_search.config.network import Input


def _is_share_or_whole(value: float) -> float:
    if value >= 1 and value != int(value):
        raise ValueError(f"found {value}, expected a whole number or a fraction below 1")
    return value


class Dataset(Model):
    """Where the images come from.

    Attributes:
        name: `digits` (scikit-learn's, built in), `cifar10` (downloaded on first use), `parquet`
            (`train-*.parquet` and `test-*.parquet`) or `folder` (class folders in `train/` and
            `test/`).
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
            object.__setattr__(self, "root", "data")
        return self

    @field_serializer("validation")
    def _images_are_whole(self, validation: float) -> int | float:
        return int(validation) if validation >= 1 else validation


SHAPES = {"digits": Input(channels=1, height=8, width=8), "cifar10": Input()}
"""The images of the datasets that are known before they are read; both have ten classes."""


class AccuracyGoal(Model):
    """The constraint on accuracy, which is maximised above it too."""

    at_least: Annotated[float, Field(gt=0.0, le=1.0)]


class ScoreGoal(Model):
    """The score that is minimised, and the ceiling above which candidates are screened."""

    rule: Literal["imt", "micronet2019"] = "imt"
    at_most: Annotated[float, Field(gt=0.0)]


class Objectives(Model):
    """What makes a trial feasible, and what the study improves."""

    accuracy: AccuracyGoal
    score: ScoreGoal


class Tpe(Model):
    """Optuna's tree-structured Parzen estimator."""

    name: Literal["tpe"]
    startup_trials: PositiveInt = 10
    candidates: PositiveInt = 24


class Nsga2(Model):
    """Optuna's NSGA-II."""

    name: Literal["nsga2"]
    population: Annotated[int, Field(ge=2)] = 24
    mutation: Fraction | None = None
    crossover: Fraction = 0.9


class RandomSearch(Model):
    """Independent random draws."""

    name: Literal["random"]


Rule = Literal["moasha", "feasibility"]


def _rules(value: Any) -> Any:
    """One rule or `off` as the list that it stands for."""
    if isinstance(value, str):
        return [] if value == "off" else [value]
    return value


def _is_rung(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or value < 1):
        raise ValueError(f"found {describe(value)}, expected auto, or an epoch, 1 or more")
    return value


class EarlyStopping(Model):
    """When a study decides whether a trial goes on.

    Attributes:
        rule: `off`, or `moasha`: multi-objective asynchronous successive halving (Schmucker et
            al., 2021), or `feasibility`: a trial stops where its accuracy, judged by the complete
            trials, cannot reach the goal. A list combines rules: a trial goes on if all say so.
        first_rung: Epoch of the first rung, within the first fit; `auto` for a third of its epochs,
            rounded. Earlier rungs lose most of the front (docs/log.md).
        reduction: The ratio of two rungs' epochs; by moasha one in so many trials goes on.
        confidence: Of feasibility: how sure it has to be.
        after: Complete trials without which feasibility says nothing.
        keep_hours: How long the checkpoint of a stopped trial is kept; null for always.
    """

    rule: Annotated[tuple[Rule, ...], Strict(False), BeforeValidator(_rules)] = ()
    first_rung: Annotated[int | Literal["auto"], BeforeValidator(_is_rung)] = "auto"
    reduction: Annotated[int, Field(ge=2)] = 3
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    after: PositiveInt = 20
    keep_hours: Annotated[float, Field(ge=0.0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _by_its_rule(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _enough_for_the_confidence(self) -> EarlyStopping:
        needed = math.ceil(self.confidence / (1 - self.confidence) - 1e-9)
        if "feasibility" in self.rule and self.after < needed:
            raise ValueError(
                f"found after: {self.after}, expected at least {needed} complete trials for a "
                f"confidence of {self.confidence:g}"
            )
        return self

    @field_serializer("rule")
    def _as_written(self, rule: tuple[Rule, ...]) -> str | list[str]:
        return list(rule) if len(rule) > 1 else "".join(rule) or "off"

    def rungs(self, epochs: int) -> list[int]:
        """The epochs of a first fit at which a trial is judged, the last one excluded.

        Args:
            epochs: Of the first fit.
        """
        # in thirds of an epoch: rounded before they are multiplied, a third of ten would give nine
        thirds = epochs if self.first_rung == "auto" else 3 * self.first_rung
        found = set()
        while thirds < 3 * epochs:
            found.add(max(1, round(thirds / 3)))
            thirds *= self.reduction
        return sorted(found - {epochs})


class Search(Model):
    """How far and how the space is searched.

    Attributes:
        trials: Complete, stopped and failed trials in all, over every start of the study.
        hours: Time of the driver in all, over every start; null for no limit.
        sampler: `tpe`, `nsga2` or `random`, by name or as a mapping with its options.
        seed: Where the randomness of the sampler and of the trials comes from.
        start_with: Files of candidates to try first, relative to the sweep's.
        early_stopping: When a trial is stopped.
    """

    trials: PositiveInt
    hours: Annotated[float, Field(gt=0.0)] | None = None
    sampler: Annotated[Tpe | Nsga2 | RandomSearch, Field(discriminator="name")] = Tpe(name="tpe")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    start_with: Annotated[tuple[str, ...], Strict(False)] = ()
    early_stopping: EarlyStopping = EarlyStopping()

    @model_validator(mode="before")
    @classmethod
    def _sampler_by_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("sampler"), str):
            return value | {"sampler": {"name": value["sampler"]}}
        return value


def _is_device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", text):
        raise ValueError(f"found {text!r}, expected auto, cpu, cuda or cuda:N")
    return text


class Execution(Model):
    """Where trials run.

    Attributes:
        engine: `inline` runs them one by one in the driver's process, `ray` several at once, on
            every device and node of a Ray cluster. `auto` takes Ray where it is installed and there
            is more than one slot.
        device: `auto` (CUDA where there is a device), `cpu`, `cuda` (every one that there is) or
            `cuda:N`.
        trials_per_device: Trials that share a device: a GPU, or a node's processors.
        address: HOST:PORT of a Ray cluster that runs already; null for one of this machine alone,
            made for the study.
        retries: How often a trial that crashed is tried again from its last checkpoint.
        checkpoint_minutes: The most training that a crash costs: a checkpoint is written at the end
            of an epoch where the next one would go beyond. Also at rungs and ends of stages.
    """

    engine: Literal["auto", "inline", "ray"] = "auto"
    device: Annotated[str, AfterValidator(_is_device)] = "auto"
    trials_per_device: Annotated[int, Field(ge=1, le=256)] = 1
    address: str | None = None
    retries: Annotated[int, Field(ge=0)] = 1
    checkpoint_minutes: Annotated[float, Field(gt=0.0)] = 5.0

    @model_validator(mode="after")
    def _slots_of_ray(self) -> Execution:
        if self.engine == "inline":
            for name, plain in (("trials_per_device", 1), ("address", None)):
                found = getattr(self, name)
                if found != plain:
                    raise ValueError(f"found {name}: {found}, expected engine: ray with it")
        if self.address is not None and self.device.startswith("cuda:"):
            raise ValueError(
                f"found device: {self.device} beside an address, expected cuda, cpu or auto: "
                "the devices of a cluster are Ray's to give"
            )
        return self


class Tracking(Model):
    """Where the records go; files under the root where a field is null.

    Attributes:
        optuna: URL of Optuna's storage.
        mlflow: URI of MLflow's tracking server.
        artifacts: URI under which MLflow keeps artifacts.
    """

    optuna: str | None = None
    mlflow: str | None = None
    artifacts: str | None = None


class Sweep(Model):
    """What a user asks for: a candidate with some values replaced by distributions, and the rest.

    Attributes:
        name: The study's name.
        candidate: The tree, as `distributions.parse` reads it, with every default written out.
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
        return distributions.parse(self.candidate)

    def dump(self) -> dict[str, Any]:
        """The plain tree of the sweep, every default written out."""
        return self.model_dump(mode="json")
