"""The surrogate forecasts what a smooth function has, and knows what it does not know."""

import numpy as np
import pytest

from micronet_search.search import surrogate
from micronet_search.search.surrogate import MAX_FITTED, floored, forecast


def smooth(features: np.ndarray) -> np.ndarray:
    return 0.8 + 0.1 * np.sin(3 * features[:, 0]) * features[:, 1]


@pytest.mark.parametrize("trials", [30, 3 * MAX_FITTED])
def test_a_smooth_function_is_forecast(trials: int) -> None:
    rng = np.random.default_rng(0)
    known, asked = rng.random((trials, 2)), rng.random((50, 2))
    noise = rng.normal(0, 0.001, trials)
    mean, deviation = forecast(known, smooth(known) + noise, asked)
    assert np.abs(mean - smooth(asked)).max() < 0.01
    assert deviation.max() < 0.02


def test_the_deviation_grows_with_the_distance() -> None:
    known = np.array([[0.0], [0.1], [0.2], [0.3]])
    accuracies = np.array([0.5, 0.6, 0.55, 0.65])
    _, deviation = forecast(known, accuracies, np.array([[0.2], [0.6], [1.0]]))
    assert (np.diff(deviation) > 0).all()


def test_a_choice_that_is_lacking_is_unlike_all_values() -> None:
    known = np.array([[0.0, np.nan], [0.1, np.nan], [np.nan, 0.0], [np.nan, 0.1]] * 3)
    accuracies = np.array([0.9, 0.9, 0.5, 0.5] * 3)
    mean, _ = forecast(known, accuracies, np.array([[0.05, np.nan], [np.nan, 0.05]]))
    assert mean == pytest.approx([0.9, 0.5], abs=0.05)


def test_equal_accuracies_are_forecast_as_they_are() -> None:
    mean, deviation = forecast(np.array([[0.0], [1.0]]), np.array([0.7, 0.7]), np.array([[0.5]]))
    assert mean == pytest.approx([0.7])
    assert deviation > 0


def test_the_lowest_accuracies_are_raised() -> None:
    tenths = np.arange(11) / 10
    assert floored(tenths) == pytest.approx(np.maximum(tenths, 0.3))
    assert not len(floored(np.empty(0)))


def test_of_many_trials_the_best_and_an_even_part_of_the_rest_are_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(surrogate, "MAX_KNOWN", 100)
    rng = np.random.default_rng(0)
    known, asked = rng.random((400, 2)), rng.random((50, 2))
    mean, _ = forecast(known, smooth(known), asked)
    assert np.abs(mean - smooth(asked)).max() < 0.01
    kept = surrogate._kept(smooth(known))
    assert len(kept) <= 100
    assert set(np.argsort(smooth(known))[-50:]) <= set(kept)
    assert np.diff(np.sort(np.argsort(np.argsort(-smooth(known)))[kept])).max() <= 7


def test_a_choice_that_all_lack_changes_nothing() -> None:
    known, asked = np.array([[0.0], [0.5], [1.0]]), np.array([[0.7]])
    accuracies = np.array([0.5, 0.6, 0.8])
    expected = np.array(forecast(known, accuracies, asked))
    lacking = [np.hstack([part, np.full_like(part, np.nan)]) for part in (known, asked)]
    assert np.array(forecast(lacking[0], accuracies, lacking[1])) == pytest.approx(expected)
