"""How far a study is, counted as its trials end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from micronet_search.config.sweep import Objectives
from micronet_search.store.outcome import Outcome
from micronet_search.study.progress import Progress
from micronet_search.study.survey import survey

GOALS = Objectives.model_validate({"accuracy": {"at_least": 0.5}, "score": {"at_most": 0.4}})
STAGES = st.dictionaries(st.sampled_from(["fit", "prune", "quantize"]), st.floats(0, 1e5))


def complete(accuracy: float, score: float, seconds: dict[str, float]) -> Outcome:
    scores = {"imt": {"parameters": 0.0, "operations": score, "score": score}}
    return Outcome("complete", 0, 1, "cpu", accuracy=accuracy, scores=scores, seconds=seconds)


def test_the_time_left_by_hand() -> None:
    progress = Progress(total=10)
    progress.estimate(None, 2)
    assert progress.seconds_left is None
    progress.add(0, complete(0.9, 0.3, {"fit": 20.0, "prune": 10.0}), GOALS)
    progress.add(4, Outcome("failed", 0, 1, "cpu", seconds={"fit": 4.0}), GOALS)
    progress.estimate(None, 2)
    assert progress.seconds_left == 8 * 17 / 2
    progress.estimate(50.0, 2)
    assert progress.seconds_left == 50
    assert progress.survey.front == (0,)


@given(st.lists(st.builds(complete, st.floats(0, 1), st.floats(0, 1), STAGES), max_size=8))
def test_what_is_kept_up_is_what_all_trials_give(ended: list[Outcome]) -> None:
    progress = Progress(total=20)
    for number, outcome in enumerate(ended):
        progress.add(number, outcome, GOALS)
    assert progress.outcomes == dict(enumerate(ended))
    assert progress.survey == survey(progress.outcomes, GOALS)
    assert progress.spent == pytest.approx(sum(sum(one.seconds.values()) for one in ended))
