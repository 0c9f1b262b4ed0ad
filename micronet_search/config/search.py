"""How a study searches: its sampler, its totals, and when it stops a trial early."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    field_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from micronet_search.config.loading import describe
from micronet_search.config.model import (
    BY_NAME,
    Fraction,
    JsonSchema,
    Listed,
    Model,
    Name,
    NotNegative,
    Positive,
    PositiveInt,
    or_alone,
)


class Tpe(Model):
    """Optuna's tree-structured Parzen estimator.

    Attributes:
        name: The name of the sampler.
        startup_trials: Trials before which draws are random.
        candidates: Draws that are compared each time.
    """

    name: Literal["tpe"]
    startup_trials: PositiveInt = 10
    candidates: PositiveInt = 24


class Nsga2(Model):
    """Optuna's NSGA-II, an evolutionary search.

    Attributes:
        name: The name of the sampler.
        population: Trials in a generation.
        mutation: Probability with which a value is drawn anew; null for one over the number of
            values.
        crossover: Probability with which two parents are mixed.
    """

    name: Literal["nsga2"]
    population: Annotated[int, Field(ge=2)] = 24
    mutation: Fraction | None = None
    crossover: Fraction = 0.9


class RandomSearch(Model):
    """Independent random draws.

    Attributes:
        name: The name of the sampler.
    """

    name: Literal["random"]


class Frontier(Model):
    """Of many candidates, whose scores are known, the one that promises the best front.

    Attributes:
        name: The name of the sampler.
        startup_trials: Complete and stopped trials before which draws are random.
        candidates: Random draws that are compared each time, beside changes of the best trials.
    """

    name: Literal["frontier"]
    startup_trials: PositiveInt = 10
    candidates: PositiveInt = 1024


OptunaSampler = Tpe | Nsga2 | RandomSearch
Sampler = Annotated[Frontier | OptunaSampler, Field(discriminator="name")]

StoppingRule = Literal["asha", "feasibility", "dominated"]
_Rules = Literal["off"] | StoppingRule | list[StoppingRule]


def _as_list(rule: Any) -> Any:
    if isinstance(rule, str):
        return [] if rule == "off" else [rule]
    return rule


def _is_rung(value: Any) -> Any:
    if value != "auto" and (type(value) is not int or value < 1):
        raise ValueError(f"found {describe(value)}, expected auto, or an epoch, 1 or more")
    return value


class EarlyStopping(Model):
    """When a study decides whether a trial goes on.

    Attributes:
        rule: `off`, or one of these, or a list of them, all of which have to let a trial go on:
            `asha`: asynchronous successive halving by accuracy (Li et al., 2020).
            `feasibility`: a trial stops where its accuracy, judged by the complete trials, cannot
            reach the goal. `dominated`: it stops where it cannot exceed that of a complete trial
            with no higher score.
        first_rung: Epoch of the first rung, within the first fit; `auto` for two thirds of its
            epochs, rounded, and no other rung. Earlier rungs lose more of the front (docs/log.md).
        reduction: The ratio of two rungs' epochs. By `asha` one in so many trials goes on.
        confidence: How sure `feasibility` and `dominated` have to be.
        after: Complete trials before which `feasibility` and `dominated` say nothing.
        keep_hours: Hours for which the checkpoint of a stopped trial is kept; null for always.
    """

    rule: Annotated[Listed[StoppingRule], BeforeValidator(_as_list, _Rules)] = ()
    first_rung: Annotated[PositiveInt | Literal["auto"], BeforeValidator(_is_rung)] = "auto"
    reduction: Annotated[int, Field(ge=2)] = 2
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    after: PositiveInt = 20
    keep_hours: Annotated[float, Field(ge=0.0)] | None = None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        schema = super().__get_pydantic_json_schema__(core, handler)
        schema["properties"]["rule"]["default"] = "off"
        return or_alone(schema, "rule")

    @model_validator(mode="before")
    @classmethod
    def _by_its_rule(cls, value: Any) -> Any:
        return {"rule": value} if isinstance(value, str | list) else value

    @model_validator(mode="after")
    def _enough_for_the_confidence(self) -> EarlyStopping:
        needed = math.ceil(self.confidence / (1 - self.confidence) - 1e-9)
        if {"feasibility", "dominated"} & set(self.rule) and self.after < needed:
            expected = f"at least {needed} complete trials for a confidence of {self.confidence:g}"
            raise ValueError(f"found after: {self.after}, expected {expected}")
        return self

    @field_serializer("rule")
    def _as_written(self, rule: tuple[StoppingRule, ...]) -> str | list[str]:
        return list(rule) if len(rule) > 1 else "".join(rule) or "off"

    def rungs(self, epochs: int) -> list[int]:
        """The epochs at which a trial is judged whose first fit has so many, the last excluded."""
        rung = round(2 * epochs / 3) if self.first_rung == "auto" else self.first_rung
        found = []
        while rung < epochs:
            found.append(rung)
            rung *= self.reduction
        return found


class StartFrom(Model):
    """Trials of another study under the same root: tried first, and their networks continued.

    Attributes:
        study: The name of the study. It can be written in the place of the mapping.
        trials: The numbers of the trials; null for its front. Where it has no feasible trial yet,
            these are the complete trials to which no other is at least as good on both objectives
            and better on one. They are written out when the new study begins.
    """

    study: Name
    trials: Annotated[Listed[NotNegative], Field(min_length=1)] | None = None

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchema:
        return or_alone(super().__get_pydantic_json_schema__(core, handler), "study")

    @model_validator(mode="before")
    @classmethod
    def _by_its_name(cls, value: Any) -> Any:
        return {"study": value} if isinstance(value, str) else value


class StopWhen(Model):
    """When a study ends before its total of trials.

    Attributes:
        stagnant_trials: How many trials in a row, complete, stopped or failed, end without raising
            the hypervolume of the feasible ones. A study that has no feasible trial has not raised
            it either, and ends after as many.
    """

    stagnant_trials: PositiveInt


class Search(Model):
    """How far and how the space is searched.

    Attributes:
        trials: Complete, stopped and failed trials in all, over every start of the study.
        hours: Hours of the study in all, over every start; null for no limit.
        stop_when: What ends the study before; null for nothing. Trials that run are finished first.
        sampler: What draws the candidates: the name of a sampler, or a mapping with its name and
            options.
        seed: The seed of the sampler and of the trials.
        compressions_per_network: How often a network is compressed once it is trained: this many
            trials differ in `structured_pruning`, `factorization`, `pruning` and `quantization`
            alone, and all but the first begin at the end of its first fit.
        start_with: Files of candidates to try first, relative to the sweep's.
        start_from: A study whose candidates are tried next, with what this sweep fixes in the place
            of theirs. Every trial with the network of one of them continues that one's fit.
        early_stopping: When a trial is stopped early: `off`, a rule, a list of rules, or a mapping.
    """

    trials: PositiveInt
    hours: Positive | None = None
    stop_when: StopWhen | None = None
    sampler: Annotated[Sampler, BY_NAME] = Frontier(name="frontier")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    compressions_per_network: PositiveInt = 1
    start_with: Listed[str] = ()
    start_from: StartFrom | None = None
    early_stopping: EarlyStopping = EarlyStopping()
