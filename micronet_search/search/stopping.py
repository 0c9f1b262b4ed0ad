"""Which trials go on past a rung: the rules `moasha` and `feasibility`.

Optuna has no pruners for several objectives. These rules are functions of what is stored: the
accuracies of a study's trials, epoch by epoch, and their scores, which are known before training.
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
    """A trial at a rung, and what there is to judge it by.

    Attributes:
        epoch: Of the rung.
        accuracy: Of the trial there, a fraction.
        score: Predicted.
        others: Accuracy and score of the trials that reached the rung before it, (N, 2).
        finished: Accuracy at the same share of the first fit, and in the end, of the complete
            trials, (M, 2).
    """

    epoch: int
    accuracy: float
    score: float
    others: Points
    finished: Points


def verdict(standing: Standing, early: EarlyStopping, at_least: float) -> str | None:
    """Why a trial is stopped: the first of the sweep's rules that says so, in their order.

    Args:
        standing: The trial at its rung.
        early: The rules and their options.
        at_least: The accuracy that makes a trial feasible.

    Returns:
        The reason, with the rung and what it was judged by; None for a trial that goes on.
    """
    place = f"at the rung of epoch {standing.epoch}"
    for rule in early.rule:
        match rule:
            case "moasha":
                point = (standing.accuracy, standing.score)
                if not goes_on(point, standing.others, early.reduction):
                    return f"moasha {place}, with {len(standing.others)} other trials"
            case "feasibility":
                known = standing.finished
                if len(known) >= early.after:
                    most = reachable(standing.accuracy, known, early.confidence)
                    if most < at_least:
                        return (
                            f"feasibility {place}: at most {most:.4f} after {len(known)} "
                            f"complete trials, expected at least {at_least:g}"
                        )
    return None


def goes_on(point: tuple[float, float], others: Points, reduction: int) -> bool:
    """Whether a trial goes on, by multi-objective asynchronous successive halving.

    The trials that reached a rung are put in order by their non-dominated rank, within a rank by
    an epsilon net (Schmucker et al., 2021, "Multi-objective Asynchronous Successive Halving").
    One in `reduction` goes on, and at least one does: a trial is judged as it arrives, against
    those before it. Constraints play no part, as few trials are feasible at an early rung.

    Args:
        point: Accuracy and score of the trial at the rung.
        others: Those of the trials that reached the rung before it, shape (N, 2); (0, 2) for none.
        reduction: One in how many goes on.

    Returns:
        True to go on; never with NaN, which is what a diverged fit leaves.
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
    """The accuracy that a trial will not exceed in the end, judged by those that are complete.

    What is compared is the share of its errors that a trial keeps, (1 - end) / (1 - here), which
    depends less on where it stands than the gain does. The bound is the one-sided prediction
    interval of split conformal prediction (Papadopoulos et al., 2002; Lei et al., 2018): of n
    complete trials the floor((n + 1) (1 - confidence))-th smallest share. If the trial and the
    complete ones are exchangeable, it is exceeded with a probability of 1 - confidence at most.
    They are not quite: trials that were stopped are missing.

    Args:
        accuracy: Of the trial at its rung, a fraction.
        finished: Accuracy at the same share of the first fit, and in the end, shape (N, 2).
        confidence: Above 0 and below 1.

    Returns:
        The bound; 1 where there are too few complete trials for the confidence.
    """
    here, end = 1.0 - finished.T
    # where nothing was left to learn, nothing is known: as if everything could be
    kept = np.sort(np.divide(end, here, out=np.zeros_like(end), where=here > 0))
    nth = math.floor((len(kept) + 1) * (1 - confidence) + 1e-9)
    return 1.0 - (1.0 - accuracy) * float(kept[nth - 1]) if nth else 1.0


def finished(outcomes: Iterable[Outcome], share: float) -> Points:
    """What `feasibility` knows of the complete trials.

    Args:
        outcomes: Of the trials that have ended.
        share: Of the first fit that the trial to judge has behind it, above 0.

    Returns:
        Accuracy at that share of the first fit, and in the end, shape (N, 2).
    """
    found = []
    for outcome in outcomes:
        if outcome.state == "complete":
            here = at_share([row.accuracy for row in outcome.curve if row.stage == "fit"], share)
            if here is not None:
                found.append((here, outcome.accuracy))
    return np.array(found, dtype=float).reshape(-1, 2)


def at_share(curve: Sequence[float], share: float) -> float | None:
    """The accuracy of a first fit after a share of its epochs, rounded down.

    Schedules span a fit, so that trials of different lengths are compared at the same share.

    Args:
        curve: Accuracy after each epoch of the first fit.
        share: Above 0, at most 1.

    Returns:
        The accuracy; None where the share is less than an epoch.
    """
    epoch = math.floor(share * len(curve) + 1e-9)
    return curve[epoch - 1] if epoch else None
