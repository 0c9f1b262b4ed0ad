"""The maths of two objectives: accuracy, which is maximised, and score, which is minimised.

Points are float arrays of shape (N, 2) with the columns accuracy and score. One point dominates
another if it is at least as good on both objectives and better on one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Indices = NDArray[np.intp]


def front(points: Points) -> Indices:
    """The points that no other dominates.

    Args:
        points: Shape (N, 2). Rows with NaN are never on the front.

    Returns:
        Their indices, lowest score first, and so with rising accuracy; of equal points the first.
    """
    known = np.flatnonzero(~np.isnan(points).any(axis=1))
    accuracy, score = points[known].T
    order: Indices = np.lexsort((-accuracy, score))  # Stable: of equal points the first is first.
    best_before = np.maximum.accumulate(np.append(-np.inf, accuracy[order]))[:-1]
    found: Indices = known[order[accuracy[order] > best_before]]
    return found


def ranks(points: Points) -> Indices:
    """Non-dominated sorting: 0 on the front, 1 on the front of what is left, and so on.

    Args:
        points: Shape (N, 2). Rows with NaN share the rank after all others.

    Returns:
        The rank of each point, shape (N,). Equal points share theirs.
    """
    unique, back = np.unique(points, axis=0, return_inverse=True)
    found = np.zeros(len(unique), dtype=np.intp)
    remaining = np.arange(len(unique))
    rank = 0
    while len(here := front(unique[remaining])):
        found[remaining[here]] = rank
        remaining = np.delete(remaining, here)
        rank += 1
    found[remaining] = rank
    return found[back.reshape(-1)]


def hypervolume(points: Points, reference: tuple[float, float]) -> float:
    """The area that points dominate and that itself dominates the reference point.

    Args:
        points: Shape (N, 2). A point that does not beat the reference in both adds nothing.
        reference: Accuracy and score of the reference point, `(at_least, at_most)`.

    Returns:
        The area, in units of accuracy (a fraction) times score.
    """
    least, most = reference
    inside = points[(points[:, 0] > least) & (points[:, 1] < most)]
    accuracy, score = inside[front(inside)].T
    rise = np.diff(accuracy, prepend=least)
    return float(np.sum(rise * (most - score)))


def epsilon_net(points: Points) -> Indices:
    """Orders points such that every beginning of the order is spread over all of them.

    Farthest-point ordering, by which Schmucker et al., 2021, "Multi-objective Asynchronous
    Successive Halving", break ties within a rank: each next point is the farthest from those
    before it. Distances are Euclidean, after each objective is scaled to [0, 1].

    Args:
        points: Shape (N, 2), finite.

    Returns:
        Their indices, shape (N,). The most accurate point is first, since the score is known
        before training and the accuracy is what training tells; of equally far ones the first.
    """
    if not len(points):
        return np.empty(0, dtype=np.intp)
    low, high = points.min(axis=0), points.max(axis=0)
    scaled = (points - low) / np.where(high > low, high - low, 1.0)
    order = np.empty(len(points), dtype=np.intp)
    order[0] = np.argmax(scaled[:, 0])
    distance = np.full(len(points), np.inf)
    for i in range(1, len(points)):
        distance = np.minimum(distance, np.linalg.norm(scaled - scaled[order[i - 1]], axis=1))
        distance[order[:i]] = -1.0
        order[i] = np.argmax(distance)
    return order
