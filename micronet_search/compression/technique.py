"""What a compression technique is to a trial: a stage, and what that asks of the network."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from torch import Tensor, nn

from micronet_search.config.candidate import Candidate
from micronet_search.network.precision import Plan

Repair = Callable[[nn.Module], None]
"""Restores in a network, in place, what a step of training must not change."""


class Technique:
    """A way to make a trained network smaller, as one stage of a trial.

    The stage runs where the candidate's field of the technique is not null. The field's schema has
    `epochs` and `learning_rate_factor`.

    Attributes:
        stage: The name of the stage, in curves and figures.
        field: The candidate's field, which is also the name of the technique's module.
        reshapes: Whether `transform` leaves plain layers of other shapes. It then also works on the
            `meta` device, where the cost is counted.
    """

    stage: ClassVar[str]
    field: ClassVar[str]
    reshapes: ClassVar[bool] = False

    def config(self, candidate: Candidate) -> Any:
        """Returns the candidate's field; None where it does not ask for the technique."""
        return getattr(candidate, self.field)

    def epochs(self, candidate: Candidate, plan: Plan) -> int:
        """Returns how many epochs of training the stage has."""
        return int(self.config(candidate).epochs)

    def transform(self, network: nn.Module, candidate: Candidate) -> None:
        """Changes the layers, in place, when the stage begins.

        What layers are left follows from the candidate alone, so that the cost is known before
        training and a file of tensors with its candidate is a network again.
        """

    def calibrate(self, network: nn.Module, images: Iterable[Tensor]) -> None:
        """Sets what the new layers learn to its start, from normalised training images."""

    def before_epoch(self, network: nn.Module, candidate: Candidate, progress: float) -> None:
        """Changes the weights before an epoch.

        Args:
            network: Is changed in place.
            candidate: What asks for the technique.
            progress: The share of the stage's epochs that will be over after this one. A stage
                without epochs makes this call once, with 1.
        """

    def after_step(self, network: nn.Module) -> Repair | None:
        """Returns what is applied after each step of this stage and of all later ones."""
        return None

    def sparsity(self, network: nn.Module, candidate: Candidate) -> dict[str, float]:
        """Returns the fraction of zeros that the technique leaves in a layer, by layer names."""
        return {}

    def has_effect(self, candidate: Candidate) -> bool:
        """Returns whether the candidate's network is another one with the technique."""
        return self.config(candidate) is not None

    def figures(self, candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
        """Yields the technique's lines in the model card; also where a candidate lacks it."""
        yield from ()
