"""Which trials go on past a rung: the rule `moasha`."""

from __future__ import annotations

import numpy as np

from micronet_search.search.pareto import Points, epsilon_net, ranks


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
