"""What MLflow says of a study in words."""

from studies import tiny

from micronet_search.config.sweep import Sweep
from micronet_search.tracking.notes import marked, study

SWEEP = Sweep.model_validate(tiny() | {"candidate": {}})
FRONT = [
    {"trial": 9, "accuracy": 0.973, "score": 0.00021, "test_accuracy": 0.96, "confirmed": False},
    {"trial": 8, "accuracy": 0.99, "score": 0.00034},
]


def test_the_winner_need_not_be_on_the_front() -> None:
    sure = {"trial": 11, "accuracy": 0.96, "score": 0.000175, "confirmed": True}
    found = study(SWEEP, FRONT, sure)
    assert (
        "**Trial 11 won: 96.0% at a score of 0.000175**, the cheapest that is confirmed." in found
    )
    assert "| 9 | 97.30% | 0.00021 | 96.00% |\n| 8 | 99.00% | 0.00034 |  |" in found
    assert "**Trial 9 won: " in study(SWEEP, FRONT, FRONT[0])
    assert study(SWEEP, [], None).startswith("No trial reaches the goals yet.")
    assert "accuracy >= 0.2, imt score <= 0.01. Dataset digits" in found


def test_a_trial_says_once_that_it_is_on_the_front() -> None:
    note = "91.0%, DenseNet"
    assert marked(marked(note, True), True) == f"front: {note}"
    assert marked(marked(note, True), False) == note
