"""Choosing a part of a dataset with its classes in proportion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SEED = 20190
"""What every choice is drawn from, so that it depends on the dataset's configuration alone."""


def stratified(
    labels: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draws `count` images, each class in proportion, the largest remainders rounded up.

    scikit-learn's `train_test_split` refuses counts within one class of either end, as a limit
    just below the size of a dataset is.

    Args:
        labels: 0 to classes - 1, (N,).
        count: At most N.

    Returns:
        The rows drawn (count,) and the others (N - count,), both in rising order.
    """
    sizes = np.bincount(labels)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    largest = np.argsort(-remainders, kind="stable")[: count - quotas.sum()]
    quotas[largest] += 1
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn = rank < quotas[labels[by_class]]
    return np.sort(by_class[drawn]), np.sort(by_class[~drawn])
