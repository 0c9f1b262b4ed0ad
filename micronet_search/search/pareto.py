"""The maths of two objectives: accuracy, which is maximised, and score, which is minimised.

Points are float arrays of shape (N, 2) with the columns accuracy and score. One point dominates
another if it is at least as good on both objectives and better on one.
"""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Points = NDArray[np.float64]
Indices = NDArray[np.intp]


def front(points: Points) -> Indices:
    """Returns the indices of the points that no other point dominates, by rising score.

    Rows with NaN are never on the front, and of equal points only the first.
    """
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    accuracy, score = points[known].T
    order: Indices = np.lexsort((-accuracy, score))  # stable: equal points keep their order
    best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order]))[:-1]
    found: Indices = known[order[accuracy[order] > best_before]]
    return found


def hypervolume(points: Points, reference: tuple[float, float]) -> float:
    """Returns the area, in accuracy times score, that the points dominate up to a reference point.

    A point that does not beat the reference on both objectives adds nothing.
    """
    least, most = reference
    inside = points[(points[:, 0] > least) & (points[:, 1] < most)]
    accuracy, score = inside[front(inside)].T
    rise = np.diff(accuracy, prepend=least)
    return float(np.sum(rise * (most - score)))


def expected_gains(
    mean: Floats, deviation: Floats, score: Floats, known: Points, reference: tuple[float, float]
) -> Floats:
    """Returns by how much each of some candidates is expected to raise the hypervolume.

    A candidate's score is known, and its accuracy is normally distributed. The area that it adds is
    then an integral over the accuracy alone: at the level u, the candidate moves the staircase of
    the known front from S(u), the least score at an accuracy of u or more, to its own score. S is
    constant between the accuracies of the front, so the expectation is a sum over its steps, each
    of which takes E[max(A - u, 0)] = (mean - u) Phi(z) + deviation phi(z), z = (mean - u) /
    deviation, at both of its ends. Emmerich et al., 2011, derive the case of two unknown
    objectives.

    Args:
        mean: Of each candidate's accuracy, shape (N,).
        deviation: The standard deviation of each candidate's accuracy, above 0, shape (N,).
        score: Of each candidate, shape (N,).
        known: What has been found, shape (M, 2).
        reference: The goals: at least this accuracy, at most this score.
    """
    from scipy.special import ndtr

    least, most = reference
    inside = known[(known[:, 0] > least) & (known[:, 1] < most)]
    accuracy, lowest = inside[front(inside)].T
    levels = np.concatenate([[least], accuracy])
    saved = np.maximum(np.append(lowest, most) - score[:, None], 0.0)
    z = (mean[:, None] - levels) / deviation[:, None]
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    above = deviation[:, None] * (z * ndtr(z) + density)
    steps = above - np.append(above[:, 1:], np.zeros((len(above), 1)), axis=1)
    gains: Floats = np.sum(saved * steps, axis=1)
    return gains
