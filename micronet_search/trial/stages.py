"""The stages of a trial that train, in their order."""

from dataclasses import dataclass

from micronet_search.compression.technique import Technique, techniques_of
from micronet_search.config.candidate import Candidate
from micronet_search.network.precision import Plan

FIT = "fit"
"""The name of the first stage."""


@dataclass(frozen=True)
class Stage:
    """A step of a trial that trains.

    Attributes:
        name: `fit`, or the stage of a technique.
        start: Epochs trained before it.
        epochs: Epochs that it trains.
        learning_rate: The peak.
        warmup: Epochs of warm-up.
        technique: What it applies to the network; None for the first fit.
    """

    name: str
    start: int
    epochs: int
    learning_rate: float
    warmup: int = 0
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
    found = [Stage(FIT, 0, training.epochs, training.learning_rate, training.warmup)]
    for technique in techniques_of(candidate):
        epochs = technique.epochs(candidate, plan)
        rate = training.learning_rate * technique.config(candidate).learning_rate_factor
        start = found[-1].end
        found.append(Stage(technique.stage, start, epochs, rate, technique=technique))
    return tuple(found)
