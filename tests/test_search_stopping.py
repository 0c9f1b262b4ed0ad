import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from micronet_search.config.search import EarlyStopping
from micronet_search.search.pareto import Floats, Points
from micronet_search.search.stopping import (
    Standing,
    at_share,
    best_at,
    goes_on,
    reachable,
    verdict,
)

EMPTY = np.empty(0)
AHEAD = np.array([0.8, 0.7, 0.6])
NONE = np.empty((0, 2))
BETTER = np.array([[0.8, 0.01], [0.7, 0.02], [0.6, 0.03]])


def test_the_first_at_a_rung_goes_on() -> None:
    assert goes_on(0.0, EMPTY, 3)


@pytest.mark.parametrize("reduction", [2, 3, 4])
def test_a_diverged_trial_never_goes_on(reduction: int) -> None:
    assert not goes_on(math.nan, EMPTY, reduction)
    assert not goes_on(math.nan, AHEAD, reduction)
    assert not goes_on(math.nan, np.array([math.nan]), reduction)


@pytest.mark.parametrize(
    ("accuracy", "others", "reduction", "expected"),
    [
        (0.5, AHEAD[:1], 3, False),  # two trials, one goes on
        (0.9, AHEAD[:1], 3, True),
        (0.75, AHEAD, 2, True),  # four trials, two go on, this is second
        (0.75, AHEAD, 3, False),  # four trials, one goes on
        (0.65, AHEAD, 2, False),  # third of four
        (0.65, np.append(AHEAD, [0.1, 0.2]), 2, True),  # third of six
        (0.65, np.append(AHEAD, [0.1]), 2, False),  # two of five
        (0.9, AHEAD, 4, True),
        (0.5, np.array([math.nan]), 2, True),  # ahead of a diverged one
        (0.8, AHEAD[:1], 2, False),  # of equals the first
    ],
)
def test_by_hand(accuracy: float, others: Floats, reduction: int, expected: bool) -> None:
    assert goes_on(accuracy, others, reduction) is expected


@given(st.permutations(range(12)), st.integers(2, 5))
def test_one_in_reduction_goes_on(accuracies: list[int], reduction: int) -> None:
    """Asked again after all have arrived, exactly the share goes on: the most accurate."""
    points = np.array(accuracies, dtype=float)
    on = [a for i, a in enumerate(points) if goes_on(a, np.delete(points, i), reduction)]
    assert sorted(on) == list(range(12 - 12 // reduction, 12))


# --- feasibility ---

CONFIDENCES = [Fraction(1, 2), Fraction(4, 5), Fraction(9, 10), Fraction(19, 20), Fraction(99, 100)]
accuracies = st.integers(0, 999).map(lambda thousandths: thousandths / 1000)


def finished(shares: list[float], here: float = 0.5) -> Points:
    """Complete trials that kept these shares of their errors."""
    return np.array([(here, 1 - share * (1 - here)) for share in shares]).reshape(-1, 2)


@pytest.mark.parametrize(
    ("count", "confidence", "rank"),
    [
        (18, 0.95, 0),
        (19, 0.95, 1),
        (38, 0.95, 1),
        (39, 0.95, 2),
        (99, 0.99, 1),
        (9, 0.9, 1),
        (4, 0.5, 2),
        (0, 0.5, 0),
    ],
)
def test_the_conformal_rank_by_hand(count: int, confidence: float, rank: int) -> None:
    """Of shares 0.01, 0.02, ... the one of this rank; all is reachable without any."""
    shares = [i / 100 for i in range(count, 0, -1)]
    expected = 1 - 0.6 * rank / 100 if rank else 1.0
    assert reachable(0.4, finished(shares), confidence) == pytest.approx(expected, abs=1e-12)


@given(
    st.lists(st.tuples(accuracies, st.integers(1, 1500)), min_size=1, max_size=60),
    st.sampled_from(CONFIDENCES),
)
def test_the_bound_is_exceeded_as_seldom_as_said(
    trials: list[tuple[float, int]], confidence: Fraction
) -> None:
    """Of exchangeable trials each is as likely the one that is judged by the others."""
    points = np.array([(here, 1 - (1 - here) * share / 1000) for here, share in trials])
    exceeded = sum(
        end > reachable(here, np.delete(points, i, axis=0), float(confidence)) + 1e-9
        for i, (here, end) in enumerate(points)
    )
    rank = math.floor(len(trials) * (1 - confidence))
    assert exceeded <= rank
    if len({share for _, share in trials}) == len(trials):
        assert exceeded == rank


@given(
    st.lists(st.tuples(accuracies, accuracies), max_size=50),
    st.tuples(accuracies, accuracies),
    st.tuples(st.floats(0.01, 0.99), st.floats(0.01, 0.99)),
)
def test_more_is_reachable_from_higher_and_to_be_surer(
    known: list[tuple[float, float]],
    here: tuple[float, float],
    confidences: tuple[float, float],
) -> None:
    points = np.array(known).reshape(-1, 2)
    low, high = (reachable(accuracy, points, confidences[0]) for accuracy in sorted(here))
    assert low <= high <= 1.0
    unsure, sure = (reachable(here[0], points, c) for c in sorted(confidences))
    assert unsure <= sure


def test_where_nothing_was_left_to_learn_all_is_reachable() -> None:
    known = np.vstack([finished([0.9] * 18), [1.0, 1.0]])
    assert reachable(0.2, known, 0.95) == 1.0
    assert reachable(0.2, known, 0.9) == pytest.approx(0.28)  # the next one of 19


@given(st.integers(1, 400), st.data())
def test_at_share_is_the_last_epoch_within_it(epochs: int, data: st.DataObject) -> None:
    curve = list(range(1, epochs + 1))
    length = data.draw(st.integers(1, 400))
    rung = data.draw(st.integers(1, length))
    within = [epoch for epoch in curve if Fraction(epoch, epochs) <= Fraction(rung, length)]
    assert at_share(curve, rung / length) == (max(within) if within else None)


def test_at_share_by_hand() -> None:
    curve = [i / 100 for i in range(1, 28)]
    assert at_share(curve, 3 / 27) == 0.03
    assert at_share(curve, 9 / 60) == 0.04  # 4.05 epochs
    assert at_share(curve, 1.0) == 0.27
    assert at_share(curve, 1 / 60) is None


# --- the rules together ---


def judged(
    rule: list[str],
    accuracy: float,
    others: Floats = EMPTY,
    complete: int = 20,
    known: Points = NONE,
    **options: object,
) -> str | None:
    """At epoch 3, with a score of 0.02, and complete trials that kept 0.9 of their errors."""
    early = EarlyStopping.model_validate({"rule": rule, **options})
    standing = Standing(3, accuracy, 0.02, others, finished([0.9] * complete), known)
    return verdict(standing, early, 0.55)


def test_what_feasibility_says() -> None:
    assert judged(["feasibility"], 0.5 + 1e-9) is None  # 0.55 is in reach
    assert judged(["feasibility"], 0.4) == (
        "feasibility at the rung of epoch 3: at most 0.4600 after 20 complete trials, "
        "expected at least 0.55"
    )


def test_a_goal_that_is_just_reached_is_reached() -> None:
    early = EarlyStopping.model_validate("feasibility")
    standing = Standing(3, 0.5, 0.02, EMPTY, finished([0.5] * 20), NONE)
    assert verdict(standing, early, 0.75) is None
    assert verdict(standing, early, 0.75 + 1e-9) is not None


@pytest.mark.parametrize("rule", ["feasibility", "dominated"])
@pytest.mark.parametrize("after", [19, 20, 60])
def test_nothing_is_said_before_enough_are_complete(after: int, rule: str) -> None:
    for complete in (0, after // 2, after - 1):
        assert judged([rule], 0.0, EMPTY, complete, BETTER, after=after) is None
    assert judged([rule], 0.0, EMPTY, after, BETTER, after=after) is not None


def test_the_best_that_scores_no_worse_by_hand() -> None:
    known = np.array([[0.5, 0.01], [0.7, 0.02], [0.6, 0.02], [0.9, 0.03]])
    for score, best in [(0.009, -math.inf), (0.01, 0.5), (0.0199, 0.5), (0.02, 0.7), (1.0, 0.9)]:
        assert best_at(score, known) == best
    assert best_at(1.0, NONE) == -math.inf


@pytest.mark.parametrize(
    ("known", "stops"),
    [
        ([[0.5, 0.02]], False),  # 0.54 is in reach
        ([[0.541, 0.02]], True),  # no worse in score, and out of reach
        ([[0.541, 0.01]], True),
        ([[0.541, 0.021]], False),  # dearer: this trial may extend the front
        ([[0.9, 0.021], [0.5, 0.01]], False),
        ([[0.9, 0.021], [0.541, 0.01]], True),
        ([], False),
    ],
)
def test_what_dominated_says(known: list[list[float]], stops: bool) -> None:
    """At 0.4889 the trial keeps at least 0.9 of its errors: 0.54 at most."""
    points = np.array(known).reshape(-1, 2)
    found = judged(["dominated"], 1 - 0.46 / 0.9, known=points)
    assert found == (
        "dominated at the rung of epoch 3: at most 0.5400 after 20 complete trials, one with no "
        "higher score has 0.5410"
        if stops
        else None
    )


def test_dominated_stops_what_could_only_be_equal() -> None:
    standing = Standing(3, 0.5, 0.02, EMPTY, finished([0.5] * 20), np.array([[0.75, 0.02]]))
    assert verdict(standing, EarlyStopping.model_validate("dominated"), 0.0) is not None


def test_the_accuracies_of_others_mean_nothing_to_feasibility() -> None:
    assert judged(["feasibility"], 0.6, AHEAD) is None
    assert judged(["asha"], 0.6, AHEAD) == "asha at the rung of epoch 3, with 3 other trials"


@pytest.mark.parametrize(
    ("accuracy", "others", "reasons"),
    [
        (0.9, EMPTY, [None, None]),
        (0.6, AHEAD, ["asha", "asha"]),  # feasible, but behind
        (0.4, EMPTY, ["feasibility", "feasibility"]),  # ahead, but out of reach
        (0.4, AHEAD, ["asha", "feasibility"]),
    ],
)
def test_the_first_rule_that_stops_gives_the_reason(
    accuracy: float, others: Floats, reasons: list[str | None]
) -> None:
    rules = ["asha", "feasibility"]
    for rule, expected in zip((rules, rules[::-1]), reasons, strict=True):
        found = judged(rule, accuracy, others)
        assert (found and found.split()[0]) == expected


@pytest.mark.parametrize("accuracy", [0.0, 0.4, np.nan])
def test_without_a_rule_every_trial_goes_on(accuracy: float) -> None:
    assert judged([], accuracy, AHEAD) is None


@pytest.mark.parametrize("rule", [["asha"], ["asha", "feasibility"], ["feasibility", "asha"]])
def test_asha_stops_a_diverged_trial(rule: list[str]) -> None:
    for others in (EMPTY, AHEAD, np.full(2, np.nan)):
        assert judged(rule, np.nan, others) is not None
