"""Which trials are feasible, and what the front is worth."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micronet_search.config.sweep import Objectives
from micronet_search.store.outcome import Outcome
from micronet_search.study.survey import (
    Survey,
    extended,
    is_feasible,
    leaders,
    meets_latency,
    stagnant_trials,
    survey,
    violations,
)

GOALS = Objectives.model_validate({"accuracy": {"at_least": 0.5}, "score": {"at_most": 0.4}})


def outcome(accuracy: float | None, score: float, state: Any = "complete") -> Outcome:
    parts = {"parameters": 0.0, "operations": score, "score": score}
    scores = {"imt": parts, "micronet2019": {**parts, "score": 9.0}}
    return Outcome(state=state, started=0, ended=1, device="cpu", accuracy=accuracy, scores=scores)


def test_the_front_is_of_feasible_complete_trials() -> None:
    outcomes = {
        0: outcome(0.9, 0.3),
        1: outcome(0.49, 0.1),  # not accurate enough
        2: outcome(0.95, 0.41),  # too dear
        3: outcome(0.7, 0.2),
        5: outcome(0.8, 0.3),  # dominated
        6: outcome(0.99, 0.01, "stopped"),
        7: Outcome(state="failed", started=0, ended=1, device="cpu"),
        8: outcome(0.9, 0.3),  # equal to the first
        9: outcome(0.5, 0.4),  # on both bounds
    }
    found = survey(outcomes, GOALS)
    assert found.front == (3, 0)
    assert found.best_score == 0.2
    assert found.hypervolume == pytest.approx(0.2 * 0.2 + 0.2 * 0.1)
    feasible = {n for n, found in outcomes.items() if is_feasible(found, GOALS)}
    assert feasible == {0, 3, 5, 8, 9}


def test_a_slow_trial_is_not_on_the_front() -> None:
    goals = Objectives.model_validate(GOALS.model_dump() | {"latency": {"at_most": 1.5}})
    found = {0: replace(outcome(0.9, 0.1), latency_ms=1.6), 1: outcome(0.8, 0.2)}
    found[1] = replace(found[1], latency_ms=1.5)
    assert survey(found, goals).front == (1,)
    assert survey(found, GOALS).front == (0,)
    assert [meets_latency(one, goals) for one in found.values()] == [False, True]


@given(
    st.permutations(range(9)).flatmap(
        lambda order: st.tuples(
            *(
                st.builds(
                    Outcome,
                    st.sampled_from(["complete", "complete", "stopped", "failed"]),
                    st.just(0.0),
                    st.just(float(place)),
                    st.just("cpu"),
                    accuracy=st.sampled_from([0.4, 0.5, 0.6 + place / 100, 0.8 + place / 100]),
                    scores=st.sampled_from([0.1, 0.2, 0.4, 0.5]).map(
                        lambda score: {
                            "imt": {"parameters": 0.0, "operations": 0.0, "score": score}
                        }
                    ),
                )
                for place in order
            )
        )
    ),
    st.integers(0, 9),
)
def test_stagnant_trials_are_those_since_the_last_growth(
    ended: tuple[Outcome, ...], count: int
) -> None:
    """Counted by hand over the trials as they ended, whatever their numbers."""
    outcomes = dict(enumerate(ended[:count]))
    known: dict[int, Outcome] = {}
    hypervolume, since = 0.0, 0
    for number in sorted(outcomes, key=lambda number: outcomes[number].ended):
        known[number] = outcomes[number]
        found = survey(known, GOALS).hypervolume
        since = 0 if found > hypervolume else since + 1
        hypervolume = found
    assert stagnant_trials(survey(outcomes, GOALS), outcomes, GOALS) == since


@pytest.mark.parametrize(
    ("accuracies", "trials"),
    [
        ({}, 3),  # nothing feasible
        ({0: 0.6}, 4),
        ({1: 0.6, 2: 0.6, 3: 0.55}, 5),  # an equal one and a worse one
        ({2: 0.6, 5: 0.7}, 9),
        ({0: 0.6, 4: 0.7}, 4),  # it would have come too late
        ({0: 0.5}, 3),  # just feasible: no hypervolume
        (dict.fromkeys(range(20), 0.6), 4),
        ({number: 0.6 + number / 100 for number in range(20)}, 20),
    ],
)
def test_three_stagnant_trials(accuracies: dict[int, float], trials: int) -> None:
    """Where a study would end, whose other trials have 0.4."""
    found, outcomes = Survey(), dict[int, Outcome]()
    while len(outcomes) < 20 and stagnant_trials(found, outcomes, GOALS) < 3:
        number = len(outcomes)
        ended = outcome(accuracies.get(number, 0.4), 0.2)
        outcomes[number] = replace(ended, ended=float(number))
        found = extended(found, number, outcomes, GOALS)
    assert len(outcomes) == trials


def test_the_leaders_are_the_front_or_what_would_be_without_goals() -> None:
    outcomes = {
        0: outcome(0.45, 0.3),
        1: outcome(0.3, 0.1),
        2: outcome(0.4, 0.3),  # dominated
        3: outcome(0.9, 0.5),  # above the ceiling
        4: outcome(0.99, 0.01, "stopped"),
        5: Outcome(state="failed", started=0, ended=1, device="cpu"),
    }
    assert leaders(outcomes, GOALS) == (1, 0, 3)
    assert leaders(outcomes | {6: outcome(0.5, 0.4)}, GOALS) == (6,)
    assert leaders({5: outcomes[5]}, GOALS) == ()


def test_nothing_is_found_without_trials() -> None:
    assert survey({}, GOALS) == Survey((), None, 0.0)
    assert survey({0: outcome(0.1, 0.1)}, GOALS) == Survey((), None, 0.0)


def test_violations_are_relative_and_a_failed_trial_has_none() -> None:
    found = violations(outcome(0.4, 0.5, "stopped"), GOALS)
    assert found == pytest.approx({"accuracy": 0.2, "score": 0.25})
    assert violations(Outcome(state="failed", started=0, ended=1, device="cpu"), GOALS) == {}


# few values, so that trials are often equal, dominated, or just beyond a goal
TRIALS = st.lists(
    st.builds(
        outcome,
        st.sampled_from([0.4, 0.5, 0.6, 0.8]),
        st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]),
        st.sampled_from(["complete", "complete", "complete", "stopped"]),
    )
    | st.just(Outcome(state="failed", started=0, ended=1, device="cpu")),
    max_size=12,
)


@given(TRIALS.flatmap(lambda found: st.permutations(list(enumerate(found)))), st.data())
def test_a_survey_that_is_extended_is_that_of_all_trials(
    ended: list[tuple[int, Outcome]], data: st.DataObject
) -> None:
    first = data.draw(st.integers(0, len(ended)))
    outcomes = dict(ended[:first])
    found = survey(outcomes, GOALS)
    for number, one in ended[first:]:
        outcomes[number] = one
        found = extended(found, number, outcomes, GOALS)
        assert found == survey(outcomes, GOALS)
