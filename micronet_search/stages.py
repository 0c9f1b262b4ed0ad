"""The stages of a trial that train, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from micronet_search.config.candidate import Candidate

Name = Literal["fit", "thin", "factorize", "prune", "quantize"]


@dataclass(frozen=True)
class Stage:
    """A step of a trial that trains.

    Attributes:
        name: fit, thin, factorize, prune or quantize.
        start: Epochs trained before it.
        epochs: Epochs that it trains.
        learning_rate: The peak.
        warmup: Epochs of warm-up.
    """

    name: Name
    start: int
    epochs: int
    learning_rate: float
    warmup: int = 0

    @property
    def end(self) -> int:
        """Epochs trained after it."""
        return self.start + self.epochs


def stages(candidate: Candidate, *, integer: bool) -> tuple[Stage, ...]:
    """The stages of a candidate, in their order.

    Args:
        candidate: What asks for them.
        integer: Whether some layer will be integer; else quantization has nothing to learn.
    """
    training = candidate.training
    found = [Stage("fit", 0, training.epochs, training.learning_rate, training.warmup)]
    for name, epochs, factor in _compressing(candidate, integer):
        found.append(Stage(name, found[-1].end, epochs, training.learning_rate * factor))
    return tuple(found)


def _compressing(candidate: Candidate, integer: bool) -> Iterator[tuple[Name, int, float]]:
    """The name, the epochs and the factor of the learning rate of each stage after the first."""
    thinning, factors = candidate.structured_pruning, candidate.factorization
    if thinning is not None:
        yield "thin", thinning.epochs, thinning.learning_rate_factor
    if factors is not None:
        yield "factorize", factors.epochs, factors.learning_rate_factor
    pruning, quantization = candidate.pruning, candidate.quantization
    if pruning is not None:
        yield "prune", pruning.epochs, pruning.learning_rate_factor
    if quantization is not None:
        yield "quantize", quantization.epochs if integer else 0, quantization.learning_rate_factor
