"""The recorded learning curves are whole, and the benchmark replays all of them."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from micronet_search.config.files import load_sweep
from micronet_search.config.sweep import EarlyStopping

FOLDER = Path(__file__).parent.parent / "benchmarks"
BENCHMARK = SimpleNamespace(**runpy.run_path(str(FOLDER / "early_stopping.py")))
SWEEP = load_sweep(FOLDER / "curves.yaml")
TRIALS = BENCHMARK.read(FOLDER / "curves.csv")
EPOCHS = SWEEP.candidate["training"]["epochs"]
COMPRESSION = BENCHMARK.compression(SWEEP)


def replay(slots: int, rule: list[str] | str = "off", at_least: float = 0.0, **options: int):
    early = EarlyStopping.model_validate({"rule": rule, **options})
    return BENCHMARK.replay(TRIALS, BENCHMARK.Rules(early, at_least), slots, COMPRESSION)


def test_the_recorded_file_is_whole() -> None:
    numbers = [trial.number for trial in TRIALS]
    assert numbers == sorted(set(numbers))
    assert len(TRIALS) >= 40
    for trial in TRIALS:
        assert len(trial.curve) == EPOCHS
        assert all(0 < accuracy < 1 for accuracy in (*trial.curve, trial.accuracy))
        assert 0 < trial.predicted <= SWEEP.objectives.score.at_most
        assert trial.score == pytest.approx(trial.predicted, rel=0.05)


@pytest.mark.parametrize("slots", [1, 4, 1000])
def test_without_stopping_every_trial_takes_all_its_epochs(slots: int) -> None:
    assert EPOCHS + COMPRESSION == 30
    found = replay(slots)
    assert found.epochs == len(TRIALS) * 30
    assert sorted(trial.number for _, trial in found.complete) == [t.number for t in TRIALS]
    ends = [epochs for epochs, _ in found.complete]
    assert ends == sorted(ends)
    if slots == 1:
        assert ends == [30 * (i + 1) for i in range(len(TRIALS))]


@pytest.mark.parametrize("slots", [1, 4])
def test_a_goal_out_of_reach_stops_all_at_the_first_rung_once_enough_are_complete(
    slots: int,
) -> None:
    found = replay(slots, "feasibility", at_least=1.0, first_rung=9)
    late = slots - 1  # past the rung when the last that was needed ended
    assert 20 <= len(found.complete) <= 20 + late
    complete = len(found.complete)
    assert found.epochs == 30 * complete + 9 * (len(TRIALS) - complete)


def test_what_is_reached_and_what_is_not() -> None:
    goal = BENCHMARK.Goal(0.0, SWEEP.objectives.score.at_most)
    found = replay(1)
    assert found.epochs_to(goal.hypervolume(TRIALS[:1]), goal) == 30
    assert found.epochs_to(goal.hypervolume(TRIALS), goal) <= found.epochs
    assert found.epochs_to(1.0, goal) == float("inf")
