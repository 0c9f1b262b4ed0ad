import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from optuna._hypervolume import compute_hypervolume

from micronet_search.search.pareto import (
    Points,
    expected_gains,
    front,
    hypervolume,
)

COARSE = st.integers(0, 6).map(lambda step: step / 4)  # Few values: equal points and ties.
FINE = st.floats(0, 1.5, allow_subnormal=False)


def some_points(values: st.SearchStrategy[float], most: int = 12) -> st.SearchStrategy[Points]:
    shape = st.tuples(st.integers(0, most), st.just(2))
    return arrays(np.float64, shape, elements=values)


POINTS = some_points(COARSE) | some_points(FINE)


def dominates(a: Points, b: Points) -> bool:
    no_worse = a[0] >= b[0] and a[1] <= b[1]
    return bool(no_worse and (a[0] > b[0] or a[1] < b[1]))


def front_by_definition(points: Points) -> list[int]:
    found = []
    for i, point in enumerate(points):
        dominated = any(dominates(other, point) for other in points)
        repeated = any((other == point).all() for other in points[:i])
        if not dominated and not repeated and not np.isnan(point).any():
            found.append(i)
    return sorted(found, key=lambda i: points[i, 1])


def test_front_by_hand() -> None:
    points = np.array([[0.9, 0.05], [0.8, 0.02], [0.8, 0.03], [0.9, 0.05], [0.95, 0.2]])
    assert front(points).tolist() == [1, 0, 4]


@given(some_points(COARSE | st.just(np.nan)) | some_points(FINE))
def test_front_is_its_definition(points: Points) -> None:
    assert front(points).tolist() == front_by_definition(points)


@pytest.mark.parametrize(
    ("points", "area"),
    [
        ([], 0.0),
        ([[0.95, 0.01]], 0.05 * 0.02),
        ([[0.95, 0.01], [0.97, 0.02]], 0.05 * 0.02 + 0.02 * 0.01),
        ([[0.95, 0.01], [0.94, 0.015]], 0.05 * 0.02),
        ([[0.90, 0.01], [0.99, 0.03], [0.5, 0.001], [np.nan, 0.01]], 0.0),
    ],
    ids=["none", "one", "two", "dominated", "none beats the reference"],
)
def test_hypervolume_by_hand(points: list[list[float]], area: float) -> None:
    found = hypervolume(np.array(points).reshape(-1, 2), (0.90, 0.03))
    assert found == pytest.approx(area)


@given(POINTS)
def test_hypervolume_is_optunas(points: Points) -> None:
    reference = (0.25, 1.25)
    inside = points[(points[:, 0] > 0.25) & (points[:, 1] < 1.25)]
    expected = compute_hypervolume(inside * [-1.0, 1.0], np.array([-0.25, 1.25]))
    assert hypervolume(points, reference) == pytest.approx(expected, abs=1e-12)


@given(some_points(COARSE))
def test_hypervolume_counts_cells(points: Points) -> None:
    centres = np.arange(6) / 4 + 0.125  # Cells of 1/4 by 1/4, on whose corners all points lie.
    cells = sum(
        any(a > accuracy and s < score for a, s in points)
        for accuracy in centres[centres > 0.25]
        for score in centres[centres < 1.25]
    )
    assert hypervolume(points, (0.25, 1.25)) == pytest.approx(cells / 16)


@given(POINTS)
def test_only_the_front_has_hypervolume(points: Points) -> None:
    kept = points[front(points)]
    assert hypervolume(kept, (0.2, 1.4)) == pytest.approx(hypervolume(points, (0.2, 1.4)))


@given(
    some_points(COARSE, 6),
    st.lists(st.tuples(COARSE, st.floats(0.05, 0.5), COARSE), min_size=1, max_size=3),
)
def test_expected_gains_are_means_over_the_accuracies(
    known: Points, asked: list[tuple[float, float, float]]
) -> None:
    reference = (0.25, 1.25)
    mean, deviation, score = np.array(asked).T
    levels = NormalDist()
    accuracies = [levels.inv_cdf((i + 0.5) / 400) for i in range(400)]
    before = hypervolume(known, reference)
    expected = [
        np.mean(
            [
                hypervolume(np.vstack([known, (m + d * z, s)]), reference) - before
                for z in accuracies
            ]
        )
        for m, d, s in asked
    ]
    gains = expected_gains(mean, deviation, score, known, reference)
    assert gains == pytest.approx(expected, abs=2e-3)


def test_an_expected_gain_by_hand() -> None:
    """A standard normal accuracy above a goal of 0 expects 1 / sqrt(2 pi) of it."""
    one = np.ones(1)
    gains = expected_gains(0 * one, one, 0.5 * one, np.empty((0, 2)), (0.0, 2.5))
    assert gains == pytest.approx([2 / math.sqrt(2 * math.pi)])
