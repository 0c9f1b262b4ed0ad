"""The surrogate of a study: what accuracy to expect of a draw, from those of the trials so far."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from micronet_search.search.pareto import Floats, Indices

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

MAX_FITTED = 128
"""From so many points the kernel's parameters are estimated."""

MAX_KNOWN = 600
"""So many points enter the process: the time of a forecast grows with their third power."""

FLOOR = 0.3
"""Accuracies below this quantile count as being there: how bad a bad network is tells little of the
best, and the process would have to follow it."""

LEAST = 1e-3
"""The least standard deviation of an accuracy, so that no candidate's gain is certain."""


def forecast(known: Floats, accuracies: Floats, asked: Floats) -> tuple[Floats, Floats]:
    """Forecasts accuracies by a Gaussian process with one length scale for all features.

    The kernel is Matern's with nu = 5/2, as is usual in Bayesian optimization (Snoek et al., 2012),
    and white noise for what differs from seed to seed. A length scale for each feature did worse
    with the few trials of a study, and so did random forests (docs/log.md).

    Args:
        known: The features of what was trained, shape (N, F). A feature that a candidate lacks,
            such as a choice on another branch, is NaN.
        accuracies: What came of it, shape (N,).
        asked: The features of the candidates, shape (M, F).

    Returns:
        The mean and the standard deviation of each candidate's accuracy, without the noise, each of
        shape (M,).
    """
    kept = _kept(accuracies)
    known, accuracies = known[kept], accuracies[kept]
    scaled = _scaled(np.concatenate([known, asked]))
    known, asked = scaled[: len(known)], scaled[len(known) :]
    mean, spread = accuracies.mean(), accuracies.std() or 1.0
    fitted = _fit(known, (accuracies - mean) / spread)
    expected, deviation = fitted.predict(asked, return_std=True)
    noise = fitted.kernel_.k2.noise_level
    clean = np.sqrt(np.maximum(deviation**2 - noise, 0.0))
    return mean + spread * expected, np.maximum(spread * clean, LEAST)


def floored(accuracies: Floats) -> Floats:
    """Raises the lowest accuracies to the quantile `FLOOR` of all."""
    return np.maximum(accuracies, np.quantile(accuracies, FLOOR)) if len(accuracies) else accuracies


def _scaled(features: Floats) -> Floats:
    """Scales each feature to [0, 1], and puts -1 in the place of what is lacking."""
    lacks = np.isnan(features)
    low = np.where(lacks, np.inf, features).min(axis=0)
    high = np.where(lacks, -np.inf, features).max(axis=0)
    scaled: Floats = (features - low) / np.where(high > low, high - low, 1.0)
    return np.nan_to_num(scaled, nan=-1.0)


def _kept(accuracies: Floats) -> Indices:
    """Returns the places of what enters the process: the best, and an even part of the rest."""
    order = np.argsort(-accuracies, kind="stable")
    if len(order) <= MAX_KNOWN:
        return np.arange(len(order))
    best, rest = np.split(order, [MAX_KNOWN // 2])
    return np.sort(np.append(best, rest[:: -(-len(rest) // (MAX_KNOWN // 2))]))


def _fit(known: Floats, targets: Floats) -> GaussianProcessRegressor:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    kernel = ConstantKernel(1.0, (0.1, 100.0)) * Matern(1.0, (0.05, 50.0), nu=2.5)
    some = np.linspace(0, len(known) - 1, min(len(known), MAX_FITTED)).astype(int)
    process = GaussianProcessRegressor(kernel + WhiteKernel(0.01, (1e-4, 1.0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a parameter at its bound is as meant
        process.fit(known[some], targets[some])
    if len(some) < len(known):
        process = GaussianProcessRegressor(process.kernel_, optimizer=None).fit(known, targets)
    return process
