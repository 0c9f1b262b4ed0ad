import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from micronet_search.search.pareto import Points
from micronet_search.search.stopping import goes_on

NONE = np.empty((0, 2))
BETTER = np.array([[0.8, 0.01], [0.7, 0.02], [0.6, 0.03]])


def test_the_first_at_a_rung_goes_on() -> None:
    assert goes_on((0.1, 9.0), NONE, 3)


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_a_diverged_trial_never_goes_on(reduction: int) -> None:
    assert not goes_on((np.nan, 0.001), NONE, reduction)
    assert not goes_on((np.nan, 0.001), BETTER, reduction)


@pytest.mark.parametrize(
    ("point", "others", "reduction", "expected"),
    [
        ((0.5, 0.05), BETTER[:1], 3, False),  # Two trials, one goes on, this is the dominated one.
        ((0.9, 0.005), BETTER[:1], 3, True),
        ((0.75, 0.015), BETTER, 2, True),  # Four trials, two go on, this is second.
        ((0.75, 0.015), BETTER, 3, False),  # Four trials, one goes on.
        ((0.65, 0.025), BETTER, 2, False),  # Third of four.
        ((0.9, 0.015), BETTER, 4, True),  # On the front, and its most accurate.
        ((0.5, 0.005), BETTER, 4, False),  # On the front too, but the other end goes first.
        ((0.5, 0.005), BETTER, 2, True),
        ((0.5, 9.0), np.array([[np.nan, 0.01]]), 2, True),  # Ahead of a diverged one.
        ((0.8, 0.01), BETTER[:1], 2, False),  # Of equals the first.
    ],
)
def test_by_hand(
    point: tuple[float, float], others: Points, reduction: int, expected: bool
) -> None:
    assert goes_on(point, others, reduction) is expected


@settings(deadline=None)
@given(st.permutations(range(12)), st.permutations(range(12)), st.integers(2, 5))
def test_one_in_reduction_goes_on(ones: list[int], others: list[int], reduction: int) -> None:
    """Asked again after all have arrived, exactly the share goes on."""
    # Uneven distances, without ties: of equally far points the one that asks is the last.
    points = np.stack([np.sqrt(np.array(ones) + 0.3), np.log(np.array(others) + 2.0)], axis=1)
    on = [
        goes_on((a, s), np.delete(points, i, axis=0), reduction) for i, (a, s) in enumerate(points)
    ]
    assert sum(on) == 12 // reduction


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9))
def test_what_dominates_a_trial_that_goes_on_goes_on(others: list[tuple[int, int]]) -> None:
    array = np.array(others, dtype=float)
    accuracy, score = array[0]
    if goes_on((accuracy, score), array[1:], 3):
        assert goes_on((accuracy + 6, score - 6), array[1:], 3)
