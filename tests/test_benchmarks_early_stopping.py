"""The recorded learning curves are whole, and the benchmark replays all of them."""

import runpy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from micronet_search.config.files import load_sweep
from micronet_search.config.search import EarlyStopping
from micronet_search.config.sweep import Sweep

FOLDER = Path(__file__).parent.parent / "benchmarks"
BENCHMARK = SimpleNamespace(**runpy.run_path(str(FOLDER / "early_stopping.py")))
EPOCHS = 30


@pytest.fixture(params=["curves", "curves-digits"])
def sweep(request: pytest.FixtureRequest) -> Sweep:
    return load_sweep(FOLDER / f"{request.param}.yaml")


@pytest.fixture
def trials(sweep: Sweep) -> list[Any]:
    return BENCHMARK.read(FOLDER / f"{sweep.name}.csv")


def replay(
    trials: list[Any], slots: int, rule: str = "off", at_least: float = 0.0, **options: int
) -> Any:
    judge = BENCHMARK.Rules(EarlyStopping.model_validate({"rule": rule, **options}), at_least)
    return BENCHMARK.replay(trials, judge, slots, EPOCHS - len(trials[0].curve))


def test_the_recorded_file_is_whole(sweep: Sweep, trials: list[Any]) -> None:
    numbers = [trial.number for trial in trials]
    assert numbers == sorted(set(numbers))
    assert len(trials) >= 70
    epochs = sweep.candidate["training"]["epochs"]
    assert epochs + BENCHMARK.compression(sweep) == EPOCHS
    for trial in trials:
        assert len(trial.curve) == epochs
        assert all(0 < accuracy < 1 for accuracy in (*trial.curve, trial.accuracy))
        assert 0 < trial.predicted <= sweep.objectives.score.at_most
        assert trial.score == pytest.approx(trial.predicted, rel=0.1)


@pytest.mark.parametrize("slots", [1, 4, 1000])
def test_without_stopping_every_trial_takes_all_its_epochs(trials: list[Any], slots: int) -> None:
    found = replay(trials, slots)
    assert found.epochs == len(trials) * EPOCHS
    assert sorted(trial.number for _, trial in found.complete) == [t.number for t in trials]
    ends = [epochs for epochs, _ in found.complete]
    assert ends == sorted(ends)
    if slots == 1:
        assert ends == [EPOCHS * (i + 1) for i in range(len(trials))]


@pytest.mark.parametrize("slots", [1, 4])
def test_a_goal_out_of_reach_stops_the_rest_once_enough_are_complete(
    trials: list[Any], slots: int
) -> None:
    found = replay(trials, slots, "feasibility", at_least=1.0, first_rung=9)
    complete = len(found.complete)
    assert 20 <= complete < 20 + slots  # the others were past the rung by then
    assert found.epochs == EPOCHS * complete + 9 * (len(trials) - complete)


def test_what_is_reached_and_what_is_not(sweep: Sweep, trials: list[Any]) -> None:
    goal = BENCHMARK.Goal(0.0, sweep.objectives.score.at_most)
    found = replay(trials, 1)
    assert found.epochs_to(goal.hypervolume(trials[:1]), goal) == EPOCHS
    assert found.epochs_to(goal.hypervolume(trials), goal) <= found.epochs
    assert found.epochs_to(1.0, goal) == float("inf")
    assert found.within(EPOCHS - 1) == []
    assert found.within(3 * EPOCHS) == trials[:3]
