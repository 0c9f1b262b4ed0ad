"""The stopping rules `moasha` and `feasibility`, which decide whether a trial goes on past a rung.

Optuna has no pruners for several objectives. Here a stopping rule is a function of what a study
stores: the accuracy of every trial after each epoch, and the scores, known before training.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from micronet_search.config.search import EarlyStopping
from micronet_search.search.pareto import Points, epsilon_net, ranks
from micronet_search.store.outcome import Outcome


@dataclass(frozen=True, eq=False)
class Standing:
    """A trial at a rung, and the trials that it is compared with.

    Attributes:
        epoch: The epoch of the rung.
        accuracy: The trial's accuracy at the rung, a fraction.
        score: The trial's predicted score.
        others: Accuracy and score of each trial that reached the rung before, shape (N, 2).
        finished: What `finished` returns for the rung's share of the first fit, shape (M, 2).
    """

    epoch: int
    accuracy: float
    score: float
    others: Points
    finished: Points


def verdict(standing: Standing, early: EarlyStopping, at_least: float) -> str | None:
    """Asks the sweep's stopping rules in their order whether a trial is to be stopped.

    Args:
        standing: The trial at its rung.
        early: The stopping rules and their options.
        at_least: The accuracy of the goal.

    Returns:
        The reason of the first rule that stops the trial; None if the trial goes on.
    """
    place = f"at the rung of epoch {standing.epoch}"
    for name in early.rule:
        if name == "moasha":
            point = (standing.accuracy, standing.score)
            if not goes_on(point, standing.others, early.reduction):
                return f"moasha {place}, with {len(standing.others)} other trials"
        elif name == "feasibility" and len(standing.finished) >= early.after:
            most = reachable(standing.accuracy, standing.finished, early.confidence)
            if most < at_least:
                return (
                    f"feasibility {place}: at most {most:.4f} after {len(standing.finished)} "
                    f"complete trials, expected at least {at_least:g}"
                )
    return None


def goes_on(point: tuple[float, float], others: Points, reduction: int) -> bool:
    """Decides by multi-objective asynchronous successive halving whether a trial goes on.

    The trials that reached the rung are sorted by their non-dominated rank, and within a rank by an
    epsilon net (Schmucker et al., 2021, "Multi-objective Asynchronous Successive Halving"). One in
    `reduction` goes on, and always the first. A trial is judged when it arrives, against those that
    arrived before it. Constraints play no part, because few trials are feasible at an early rung.

    Args:
        point: Accuracy and score of the trial at the rung.
        others: Accuracy and score of each trial that reached the rung before, shape (N, 2).
        reduction: One in how many trials goes on.

    Returns:
        Whether the trial goes on; False if a figure is NaN, which a diverged fit leaves.
    """
    if np.isnan(point).any():
        return False
    points = np.vstack([others, point])
    rank = ranks(points)
    ahead = int(np.sum(rank < rank[-1]))
    level = np.flatnonzero(rank == rank[-1])
    position = int(np.flatnonzero(epsilon_net(points[level]) == len(level) - 1)[0])
    return ahead + position < max(1, len(points) // reduction)


def reachable(accuracy: float, finished: Points, confidence: float) -> float:
    """Returns the accuracy that a trial will not exceed in the end, as complete trials suggest.

    A trial keeps a share of the errors that it makes at the rung, (1 - end) / (1 - here), which
    depends less on its accuracy than its gain does. The bound is the one-sided prediction interval
    of split conformal prediction (Papadopoulos et al., 2002; Lei et al., 2018): of n complete
    trials, it takes the floor((n + 1) (1 - confidence))-th smallest share. If the trial and the
    complete trials are exchangeable, the trial exceeds its bound with a probability of at most
    1 - confidence. They are not quite, because trials that were stopped are missing.

    Args:
        accuracy: The trial's accuracy at its rung, a fraction.
        finished: What the function `finished` returns, shape (N, 2).
        confidence: A probability between 0 and 1.

    Returns:
        The bound; 1 if there are too few complete trials for the confidence.
    """
    here, end = 1.0 - finished.T
    # A trial without errors at the rung tells nothing, and counts as if every error could go.
    kept = np.sort(np.divide(end, here, out=np.zeros_like(end), where=here > 0))
    nth = math.floor((len(kept) + 1) * (1 - confidence) + 1e-9)
    return 1.0 - (1.0 - accuracy) * float(kept[nth - 1]) if nth else 1.0


def finished(outcomes: Iterable[Outcome], share: float) -> Points:
    """Returns the accuracies of the complete trials, part of the way and in the end.

    Args:
        outcomes: The outcomes of trials in any state.
        share: The share of the first fit's epochs, above 0 and at most 1.

    Returns:
        The accuracy after that share of the first fit, and in the end, shape (N, 2).
    """
    found = []
    for outcome in outcomes:
        if outcome.state == "complete":
            here = at_share([row.accuracy for row in outcome.curve if row.stage == "fit"], share)
            if here is not None:
                found.append((here, outcome.accuracy))
    return np.array(found, dtype=float).reshape(-1, 2)


def at_share(curve: Sequence[float], share: float) -> float | None:
    """Returns the accuracy of a first fit after a share of its epochs, rounded down.

    A learning rate schedule spans the whole fit, so trials of different lengths are compared at the
    same share and not at the same epoch.

    Args:
        curve: The accuracy after each epoch of the first fit.
        share: Above 0, at most 1.

    Returns:
        The accuracy; None if the share is less than an epoch.
    """
    epoch = math.floor(share * len(curve) + 1e-9)
    return curve[epoch - 1] if epoch else None
