"""The interface of a compression technique: a stage of a trial, and its changes to the network."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn

from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Compression
from micronet_search.network.parts import Part
from micronet_search.network.precision import Plan
from micronet_search.network.shapes import Passed

Repair = Callable[[nn.Module], None]
"""Restores in a network, in place, what a step of training must not change."""


class Technique:
    """A way to make a trained network smaller, as one stage of a trial.

    Attributes:
        stage: The name of the stage, in curves and figures.
        field: The candidate's field, and the technique's module. The stage runs where it is not
            null; its schema has `epochs` and `learning_rate_factor`.
        reshapes: Whether `transform` replaces plain layers by plain layers of other shapes, which
            `reshape` tells.
    """

    stage: ClassVar[str]
    field: ClassVar[str]
    reshapes: ClassVar[bool] = False

    def config(self, candidate: Candidate) -> Any:
        """Returns the candidate's field; None where it does not ask for the technique."""
        return getattr(candidate, self.field)

    def epochs(self, candidate: Candidate, plan: Plan) -> int:
        """Returns the number of training epochs of the stage."""
        return int(self.config(candidate).epochs)

    def transform(self, network: nn.Module, candidate: Candidate) -> None:
        """Changes the layers, in place, when the stage begins.

        The layers that remain follow from the candidate alone. So the cost is known before
        training, and a file of tensors with its candidate is a network again.
        """

    def reshape(self, layers: Sequence[Passed], candidate: Candidate) -> Mapping[str, Part]:
        """Returns what `transform` puts in the place of layers, plain ones or chains, by name.

        From this the cost is counted, and the shipped network is built.
        """
        return {}

    def calibrate(self, network: nn.Module, images: Iterable[Tensor]) -> None:
        """Sets the learned values of the new layers to their start, from normalised images."""

    def before_epoch(self, network: nn.Module, candidate: Candidate, progress: float) -> None:
        """Changes the weights, in place, before an epoch.

        `progress` is the share of the stage that is over at the end of this epoch, so that the last
        epoch has 1. A stage without epochs makes this call once, with 1.
        """

    def after_step(self, network: nn.Module) -> Repair | None:
        """Returns a repair to apply after each step of this stage and of all later ones."""
        return None

    def finish(self, network: nn.Module, candidate: Candidate) -> None:
        """Gives the layers the form that is shipped, in place, after the last epoch of all."""

    def sparsity(self, layers: Sequence[Passed], candidate: Candidate) -> Mapping[str, float]:
        """Returns the fraction of zeros that the technique leaves in each layer, by name."""
        return {}

    def has_effect(self, candidate: Candidate) -> bool:
        """Returns whether the technique changes the candidate's network."""
        return self.config(candidate) is not None

    def figures(self, candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
        """Yields the technique's lines in the model card, for candidates without it too."""
        yield from ()


@cache
def techniques() -> tuple[Technique, ...]:
    """Returns every technique in the order of the stages, from the module of its field's name."""
    fields = Compression.model_fields
    modules = [import_module(f"micronet_search.compression.{field}") for field in fields]
    return tuple(module.TECHNIQUE for module in modules)


def techniques_of(candidate: Candidate) -> list[Technique]:
    """Returns the techniques that a candidate asks for, in their order."""
    return [technique for technique in techniques() if technique.config(candidate) is not None]
