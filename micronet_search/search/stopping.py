"""The stopping rules, which decide whether a trial goes on past a rung.

Optuna has no pruners for several objectives. Here a stopping rule is a function of what a study
stores: the accuracy of every trial after each epoch, and the scores, known before training.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from micronet_search.config.search import EarlyStopping
from micronet_search.search.pareto import Floats, Points
from micronet_search.store.outcome import Outcome

RUNGS = "rungs"
"""The attribute of a trial in Optuna that keeps its accuracy and score at each rung."""


@dataclass(frozen=True, eq=False)
class Standing:
    """A trial at the rung of an epoch, and the trials that it is compared with.

    Attributes:
        accuracy: The trial's at the rung, a fraction.
        score: The trial's, predicted.
        others: The accuracy of each trial that reached the rung before, shape (N,).
        finished: What `finished` returns for the rung's share of the first fit, shape (M, 2).
        complete: Accuracy and score of each complete trial, shape (K, 2).
    """

    epoch: int
    accuracy: float
    score: float
    others: Floats
    finished: Points
    complete: Points


def verdict(standing: Standing, early: EarlyStopping, at_least: float) -> str | None:
    """Returns the reason of the first of the sweep's rules that stops a trial; None if it goes on.

    `at_least` is the accuracy that makes a trial feasible.
    """
    place = f"at the rung of epoch {standing.epoch}"
    for name in early.rule:
        if name == "asha":
            if not goes_on(standing.accuracy, standing.others, early.reduction):
                return f"asha {place}, with {len(standing.others)} other trials"
        elif len(standing.finished) >= early.after:
            most = reachable(standing.accuracy, standing.finished, early.confidence)
            known = f"at most {most:.4f} after {len(standing.finished)} complete trials"
            rival = best_at(standing.score, standing.complete)
            if name == "feasibility" and most < at_least:
                return f"{name} {place}: {known}, expected at least {at_least:g}"
            if name == "dominated" and most <= rival:
                return f"{name} {place}: {known}, one with no higher score has {rival:.4f}"
    return None


def best_at(score: float, complete: Points) -> float:
    """Returns the highest accuracy of the complete trials with at most this score.

    Args:
        score: What a trial is predicted to have.
        complete: Accuracy and score of each complete trial, shape (K, 2).

    Returns:
        The accuracy; minus infinity if no trial has such a score.
    """
    return float(complete[complete[:, 1] <= score, 0].max(initial=-math.inf))


def goes_on(accuracy: float, others: Floats, reduction: int) -> bool:
    """Decides by asynchronous successive halving (Li et al., 2020, ASHA) whether a trial goes on.

    The trials that reached the rung are sorted by accuracy, equal ones in the order in which they
    came. One in `reduction` goes on, and always the first. A trial is judged when it arrives,
    against those that arrived before it.

    For several objectives, Schmucker et al., 2021, "Multi-objective Asynchronous Successive
    Halving", sort by the non-dominated rank, and within a rank by an epsilon net. Here the score is
    known before training, and its ceiling has been applied. In a rank the cheapest trials are first
    whatever they have learned, and take the places of the feasible front (docs/log.md).

    Args:
        accuracy: Of the trial at the rung; it stops if that is NaN, as a diverged fit leaves it.
        others: Those of each trial that reached the rung before, shape (N,).
        reduction: One in how many trials goes on.
    """
    ahead = int(np.sum(others >= accuracy))
    return not math.isnan(accuracy) and ahead < max(1, (len(others) + 1) // reduction)


def reachable(accuracy: float, finished: Points, confidence: float) -> float:
    """Returns the accuracy that a trial will not exceed in the end, as complete trials suggest.

    A trial keeps a share of the errors that it makes at the rung, (1 - end) / (1 - here), which
    depends less on its accuracy than its gain does. The bound is the one-sided prediction interval
    of split conformal prediction (Papadopoulos et al., 2002; Lei et al., 2018): of n complete
    trials, it takes the floor((n + 1) (1 - confidence))-th smallest share. If the trial and the
    complete trials are exchangeable, the trial exceeds its bound with a probability of at most
    1 - confidence. They are not quite, because trials that were stopped are missing.

    The bound is 1 if there are too few complete trials for the confidence.
    """
    here, end = 1.0 - finished.T
    # A trial without errors at the rung tells nothing, and counts as if every error could go.
    kept = np.sort(np.divide(end, here, out=np.zeros_like(end), where=here > 0))
    nth = math.floor((len(kept) + 1) * (1 - confidence) + 1e-9)
    return 1.0 - (1.0 - accuracy) * float(kept[nth - 1]) if nth else 1.0


def finished(outcomes: Iterable[Outcome], share: float) -> Points:
    """Returns the accuracies of the complete trials, shape (N, 2).

    The first is the one after a share of the first fit, above 0 and at most 1, the other the last.
    """
    found = []
    for outcome in outcomes:
        here = at_share([row.accuracy for row in outcome.curve if row.stage == "fit"], share)
        if outcome.state == "complete" and here is not None:
            found.append((here, outcome.accuracy))
    return np.array(found, dtype=float).reshape(-1, 2)


def at_share(curve: Sequence[float], share: float) -> float | None:
    """Returns the accuracy of a first fit after a share of its epochs, rounded down.

    A learning rate schedule spans the whole fit, so trials of different lengths are compared at the
    same share and not at the same epoch. The accuracy is None if the share is less than an epoch.
    """
    epoch = math.floor(share * len(curve) + 1e-9)
    return curve[epoch - 1] if epoch else None
