import pytest

from micronet_search.config.sweep import AccuracyGoal, LatencyGoal, Objectives, ScoreGoal
from micronet_search.search.screening import (
    MAX_SCREENED_IN_A_ROW,
    Screened,
    describe_end,
    feasible,
    impossible,
    screen,
    violations,
)

OBJECTIVES = Objectives(accuracy=AccuracyGoal(at_least=0.8), score=ScoreGoal(at_most=0.04))


@pytest.mark.parametrize(
    ("accuracy", "score", "expected", "is_feasible"),
    [
        (0.9, 0.03, {"accuracy": -0.125, "score": -0.25}, True),
        (0.8, 0.04, {"accuracy": 0.0, "score": 0.0}, True),
        (0.6, 0.03, {"accuracy": 0.25, "score": -0.25}, False),
        (0.9, 0.05, {"accuracy": -0.125, "score": 0.25}, False),
        (0.0, 0.06, {"accuracy": 1.0, "score": 0.5}, False),
    ],
)
def test_violations_by_hand(
    accuracy: float, score: float, expected: dict[str, float], is_feasible: bool
) -> None:
    found = violations(accuracy, score, OBJECTIVES)
    assert found == pytest.approx(expected)
    assert feasible(found) is is_feasible


def test_a_latency_counts_where_there_is_a_goal_for_it() -> None:
    goals = OBJECTIVES.model_copy(update={"latency": LatencyGoal(at_most=2.0)})
    assert violations(0.8, 0.04, goals, 2.5) == {"accuracy": 0.0, "score": 0.0, "latency": 0.25}
    assert feasible(violations(0.8, 0.04, goals, 2.0))
    assert "latency" not in violations(0.8, 0.04, goals)  # of a draw that was not measured
    assert "latency" not in violations(0.8, 0.04, OBJECTIVES, 2.5)


def test_a_diverged_trial_is_not_feasible() -> None:
    assert not feasible(violations(float("nan"), 0.01, OBJECTIVES))


def test_a_new_draw_within_the_bound_passes() -> None:
    assert screen("new", 0.04, OBJECTIVES, {"old": 3}) is None


def test_a_high_score_is_screened() -> None:
    found = screen("old", 0.0512, OBJECTIVES, {"old": 3})
    expected = "predicted score 0.0512, expected at most 0.04"
    assert found == Screened("score", expected, 0.0512)


def test_a_duplicate_is_screened() -> None:
    found = screen("old", 0.03, OBJECTIVES, {"old": 3})
    assert found == Screened("duplicate", "the same candidate as trial 3", 0.03, of=3)


def test_the_end_names_what_to_widen() -> None:
    high = [Screened("score", "", 0.06), Screened("score", "", 0.05)]
    again = [Screened("duplicate", "", 0.01, of=0)]
    mostly_high = describe_end([*high, *again], OBJECTIVES)
    assert "3 draws in a row were screened, 2 by predicted score and 1 as duplicates" in mostly_high
    assert "0.05;" in mostly_high
    assert "raise objectives.score.at_most (0.04)" in mostly_high
    assert "smaller widths, fewer bits, more stride" in mostly_high
    mostly_again = describe_end(again * MAX_SCREENED_IN_A_ROW, OBJECTIVES)
    assert "100 draws in a row" in mostly_again
    assert "exhausted" in mostly_again


def test_the_end_names_draws_that_make_no_candidate() -> None:
    text = describe_end([impossible("too wide")] * 3, OBJECTIVES)
    assert text.endswith("the others make no candidate: narrow the ranges that do not go together")
