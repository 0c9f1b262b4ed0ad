"""The stages of a trial that train, in their order."""

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from micronet_search import build
from micronet_search.compression.technique import Technique, techniques_of
from micronet_search.config.candidate import Candidate
from micronet_search.network.precision import Plan

FIT = "fit"
"""The name of the first stage."""


@dataclass(frozen=True)
class Rates:
    """One run of the learning-rate schedule, over a stage or a whole trial.

    Attributes:
        start: Epochs trained before it.
        end: Epochs trained after it.
        peak: The largest rate.
        warmup: Epochs of warm-up.
    """

    start: int
    end: int
    peak: float
    warmup: int = 0


@dataclass(frozen=True)
class Stage:
    """A step of a trial that trains.

    Attributes:
        name: `fit`, or the stage of a technique.
        start: Epochs trained before it.
        epochs: Epochs that it trains.
        rates: The learning rates from which it takes its own.
        technique: What it applies to the network; None for the first fit.
    """

    name: str
    start: int
    epochs: int
    rates: Rates
    technique: Technique | None = None

    @property
    def end(self) -> int:
        """Epochs trained after it."""
        return self.start + self.epochs


def stages(candidate: Candidate, plan: Plan) -> tuple[Stage, ...]:
    """Returns the stages of a candidate: the first fit, and one for each technique.

    Args:
        candidate: What asks for them.
        plan: The widths of its layers.
    """
    training = candidate.training
    techniques = techniques_of(candidate)
    epochs = [training.epochs, *(one.epochs(candidate, plan) for one in techniques)]
    ends = list(accumulate(epochs))
    rates = Rates(0, ends[-1], training.learning_rate, training.warmup)
    if training.span == "stage":
        rates = replace(rates, end=ends[0])
    found = [Stage(FIT, 0, training.epochs, rates)]
    for technique, own, (start, end) in zip(techniques, epochs[1:], pairwise(ends), strict=True):
        if training.span == "stage":
            peak = training.learning_rate * technique.config(candidate).learning_rate_factor
            rates = Rates(start, end, peak)
        found.append(Stage(technique.stage, start, own, rates, technique))
    return tuple(found)


def total_epochs(candidate: Candidate) -> int:
    """Returns the epochs of all stages of a candidate."""
    return stages(candidate, build.planned(candidate)[0])[-1].end
