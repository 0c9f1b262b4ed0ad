"""Prospects: what is known of a draw before any training, its score above all."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.options import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.data import splits
from micronet_search.scoring.cost import Cost
from micronet_search.scoring.rules import scores


def _as_it_is(candidate: Candidate) -> Candidate:
    return candidate


@dataclass(frozen=True, eq=False)
class Prospect:
    """A draw before it is trained.

    Attributes:
        candidate: What the draw stands for.
        digest: The candidate's.
        score: Predicted, by the rule that the study minimises.
        features: What `features` makes of the predicted cost.
    """

    candidate: Candidate
    digest: str
    score: float
    features: tuple[float, ...]


class Prospects:
    """Makes prospects of the trees that a space draws."""

    def __init__(self, sweep: Sweep, start: Callable[[Candidate], Candidate] = _as_it_is) -> None:
        """Prepares the prospects of a study.

        Args:
            sweep: Its dataset says what images a network gets, and its goals which score counts.
            start: Returns a candidate with the starting point of its fit, where it has one.
        """
        self._images, self._classes = splits.describe(sweep.dataset)
        self._rule, self._start = sweep.objectives.score.rule, start

    def of(self, tree: dict[str, Any]) -> Prospect:
        """Returns the prospect of a drawn tree.

        Raises:
            ValidationError: The choices make no candidate together.
            TooLargeError: The network cannot be built.
        """
        candidate = self._start(read_candidate(tree, self._images, self._classes))
        cost = build.predict(candidate)
        score = scores(cost)[self._rule].score
        return Prospect(candidate, candidate.digest(), score, features(cost))


def features(cost: Cost) -> tuple[float, ...]:
    """Returns what a predicted cost tells of the accuracy to expect.

    These are the logarithms (base 10) of the multiply-accumulates, of the weights and of the
    nonzeros among them; the mean width in bits of the weights, and of the inputs by their
    multiply-accumulates; and the number of convolutions and linear layers.
    """
    layers = [layer for layer in cost.layers if layer.macs]
    weights = [layer.stored[0] for layer in layers]
    elements = sum(t.elements for t in weights)
    return (
        math.log10(cost.macs),
        math.log10(elements),
        math.log10(max(1, sum(t.nonzeros for t in weights))),
        sum(t.bits * t.elements for t in weights) / elements,
        sum(layer.activation_bits * layer.macs for layer in layers) / cost.macs,
        float(len(layers)),
    )
