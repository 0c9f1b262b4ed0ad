"""The benchmark of early stopping replays every order, and counts what it says."""

from typing import Any

import pytest
from studies import script

from micronet_search.config.search import EarlyStopping


@pytest.fixture(scope="module")
def benchmark() -> Any:
    return script("early_stopping")


@pytest.fixture(scope="module")
def setting(benchmark: Any) -> Any:
    return benchmark.Setting.read("cifar10", orders=3)


def replay(benchmark: Any, setting: Any, slots: int, rule: str = "off", **changes: Any) -> Any:
    least = changes.pop("least", setting.least)
    judge = benchmark.Judge(EarlyStopping.model_validate({"rule": rule, **changes}), least)
    return benchmark.replay(setting.orders[0], judge, slots, setting.rest)


def test_the_orders_are_of_different_candidates_under_the_ceiling(setting: Any) -> None:
    assert (setting.least, setting.most, setting.rest) == (0.57, 0.002, 4)
    assert [len(trials) for trials in setting.orders] == [120] * 3
    for trials in setting.orders:
        assert len(set(trials)) == 120
        assert all(len(trial.curve) == 9 and trial.score <= 0.002 for trial in trials)
    assert setting.orders[0] != setting.orders[1]


@pytest.mark.parametrize("slots", [1, 4, 1000])
def test_without_stopping_every_trial_takes_all_its_epochs(
    benchmark: Any, setting: Any, slots: int
) -> None:
    found = replay(benchmark, setting, slots)
    assert found.epochs == 120 * 13
    assert sorted(trial for _, trial in found.complete) == sorted(setting.orders[0])
    ends = [epochs for epochs, _ in found.complete]
    assert ends == sorted(ends)
    if slots == 1:
        assert ends == [13 * (i + 1) for i in range(120)]


@pytest.mark.parametrize("slots", [1, 4])
def test_a_goal_out_of_reach_stops_the_rest_once_enough_are_complete(
    benchmark: Any, setting: Any, slots: int
) -> None:
    found = replay(benchmark, setting, slots, "feasibility", least=1.0)
    complete = len(found.complete)
    assert 20 <= complete < 20 + slots  # the others were past the rung by then
    assert found.epochs == 13 * complete + 6 * (120 - complete)


def test_half_of_the_trials_go_on(benchmark: Any, setting: Any) -> None:
    """At two thirds of the fit, of those that came before: the more accurate half."""
    found, before, expected = replay(benchmark, setting, 1, "asha"), [], []
    for trial in setting.orders[0]:
        accuracy = trial.curve[5]
        if sum(other >= accuracy for other in before) < max(1, (len(before) + 1) // 2):
            expected.append(trial)
        before.append(accuracy)
    assert [trial for _, trial in found.complete] == expected


def test_what_is_reached_and_what_is_not(benchmark: Any, setting: Any) -> None:
    found, trials = replay(benchmark, setting, 1), setting.orders[0]
    final = setting.hypervolume(trials)
    first = next(i for i in range(120) if setting.hypervolume(trials[: i + 1]) >= 0.95 * final)
    assert found.epochs_to(0.95 * final, setting) == 13 * (first + 1)
    assert found.epochs_to(1.0, setting) == float("inf")
    assert found.within(12) == []
    assert found.within(3 * 13) == trials[:3]


def test_cells_of_what_was_not_stopped(benchmark: Any, setting: Any) -> None:
    plain = benchmark.replays(EarlyStopping(), setting, 1)
    found = benchmark.cells(plain, plain, setting)
    assert found == ["1.00 (1.00 to 1.00)", "0%", "100.0%", "100.0%", "100.0%"]
