"""The sweep: what a user asks for, as typed and frozen configuration."""

from __future__ import annotations

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
from micronet_search.config.model import Fraction, Model, Name, PositiveInt, whole_number
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


class EarlyStopping(Model):
    """When a study decides whether a trial goes on.

    Attributes:
        rule: `off`, or `moasha`: multi-objective asynchronous successive halving (Schmucker et
            al., 2021).
        first_rung: Epoch of the first rung, within the first fit.
        reduction: One in how many trials goes on past a rung, and the ratio of two rungs' epochs.
    """

    rule: Literal["off", "moasha"] = "off"
    first_rung: PositiveInt = 3
    reduction: Annotated[int, Field(ge=2)] = 3

    @model_validator(mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str) else value

    def rungs(self, epochs: int) -> list[int]:
        """The epochs of a first fit at which a trial is judged, the last one excluded."""
        found, rung = [], self.first_rung
        while rung < epochs:
            found.append(rung)
            rung *= self.reduction
        return found


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
        engine: `inline` runs them in the driver's process; `auto` takes what fits.
        device: `auto` (a CUDA device where there is one), `cpu`, `cuda` or `cuda:N`.
        trials_per_device: Trials that share a device.
    """

    engine: Literal["auto", "inline"] = "auto"
    device: Annotated[str, AfterValidator(_is_device)] = "auto"
    trials_per_device: Annotated[Literal[1], BeforeValidator(whole_number)] = 1


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
