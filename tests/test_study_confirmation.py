"""Which trials are confirmed, and what their repeats say."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from micronet_search.config.sweep import Objectives
from micronet_search.store.outcome import Outcome, State
from micronet_search.store.paths import Repeat
from micronet_search.study.confirmation import Confirmation, contenders, gathered

GOALS = Objectives.model_validate(
    {"accuracy": {"at_least": 0.9}, "score": {"rule": "imt", "at_most": 0.5}}
)


def trial(accuracy: float, score: float, state: State = "complete") -> Outcome:
    parts = {"parameters": score, "operations": 0.0, "score": score}
    return Outcome(state, 0.0, 1.0, "cpu", accuracy=accuracy, scores={"imt": parts})


def repeated(accuracy: float | None) -> Outcome:
    state = "failed" if accuracy is None else "complete"
    return Outcome(state, 0.0, 1.0, "cpu", accuracy=0.5, test_accuracy=accuracy)


def test_the_figures_of_three_seeds_as_counted_by_hand() -> None:
    found = Confirmation({1: 0.90, 2: 0.93, 3: 0.91}, failed=0, images=1000, full_train=False)
    assert found.mean == pytest.approx(2.74 / 3)
    # the squares of the distances from the mean add up to 4.6667e-4, over two degrees of freedom
    assert found.deviation == pytest.approx(math.sqrt(4.66667e-4 / 2), rel=1e-5)
    assert found.error == pytest.approx(0.0152753 / math.sqrt(3), rel=1e-5)
    assert found.median_seed == 3
    assert found.reaches(0.9045)
    assert not found.reaches(0.9046)


@given(hits=st.integers(0, 500), images=st.just(500))
def test_the_interval_is_that_of_wilson(hits: int, images: int) -> None:
    found = Confirmation({1: hits / images}, failed=0, images=images, full_train=False)
    expected = binomtest(hits, images).proportion_ci(0.95, method="wilson")
    assert found.interval == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_one_seed_has_the_error_of_its_images() -> None:
    found = Confirmation({1: 0.9}, failed=0, images=100, full_train=False)
    assert found.deviation is None
    assert found.error == pytest.approx(0.03)
    assert found.reaches(0.87)
    assert not found.reaches(0.8701)


def test_nothing_is_confirmed_that_has_failed_once() -> None:
    assert not Confirmation({1: 0.99, 2: 0.99}, failed=1, images=100, full_train=False).reaches(0.5)
    nothing = Confirmation({}, failed=2, images=100, full_train=False)
    assert not nothing.reaches(0.0)
    assert nothing.mean == 0.0


@pytest.mark.parametrize(
    ("accuracies", "median"),
    [({1: 0.5}, 1), ({1: 0.7, 2: 0.5}, 2), ({1: 0.7, 2: 0.5, 3: 0.6, 4: 0.8}, 3)],
)
def test_of_two_in_the_middle_the_lower_is_shipped(
    accuracies: dict[int, float], median: int
) -> None:
    found = Confirmation(accuracies, failed=0, images=100, full_train=False)
    assert found.median_seed == median
    assert accuracies[median] == statistics.median_low(accuracies.values())


def test_repeats_are_gathered_by_trial_and_those_on_all_images_count_alone() -> None:
    found = gathered(
        {
            Repeat(4, 1): repeated(0.8),
            Repeat(4, 2): repeated(None),
            Repeat(7, 1): repeated(0.1),
            Repeat(7, 1, full_train=True): repeated(0.9),
            Repeat(7, 3, full_train=True): repeated(0.7),
        },
        images=360,
    )
    assert found == {
        4: Confirmation({1: 0.8}, failed=1, images=360, full_train=False),
        7: Confirmation({1: 0.9, 3: 0.7}, failed=0, images=360, full_train=True),
    }


def test_contenders_are_the_front_and_what_chance_may_have_kept_off_it() -> None:
    # 900 images: a standard error of 0.01 at an accuracy of 0.9, of 0.0073 at 0.95
    trials = {
        0: trial(0.95, 0.4),  # on the front
        1: trial(0.91, 0.2),  # on the front
        2: trial(0.899, 0.1),  # below the goal, within one error of it
        3: trial(0.88, 0.05),  # too far below it
        4: trial(0.945, 0.4),  # as expensive as trial 0, within one error of it
        5: trial(0.92, 0.45),  # worse than trial 0 in both, by more than an error
        6: trial(0.99, 0.6),  # too expensive
        7: trial(0.99, 0.01, "stopped"),
        8: Outcome("failed", 0.0, 1.0, "cpu"),
    }
    assert contenders(trials, GOALS, 900) == [2, 1, 0, 4]


def test_nothing_contends_where_nothing_is_close_to_the_goals() -> None:
    assert contenders({0: trial(0.5, 0.1)}, GOALS, 900) == []
