import io
import sys

import numpy as np
import pytest

from micronet_search.config.sweep import Objectives
from micronet_search.tracking.picture import BELOW, Point, front_figure

OBJECTIVES = Objectives.model_validate(
    {"accuracy": {"at_least": 0.9}, "score": {"at_most": 0.03, "rule": "micronet2019"}}
)
POINTS = [
    Point(0, 0.91, 0.02, True),
    Point(1, 0.95, 0.029, True),
    Point(2, 0.90, 0.025, True),
    Point(3, 0.80, 0.005, False),
    Point(4, 0.10, 0.05, False),
    Point(5, float("nan"), 0.05, False),
    Point(6, 0.5, 0.0, False),
]


@pytest.mark.parametrize("points", [[], POINTS[3:4], POINTS[4:], POINTS[:1], POINTS])
def test_the_picture_is_a_png(points: list[Point]) -> None:
    file = io.BytesIO()
    front_figure("a", points, {0, 1}, OBJECTIVES).savefig(file)
    assert file.getvalue().startswith(b"\x89PNG\r\n")


def test_the_picture_shows_trials_front_and_goals() -> None:
    figure = front_figure("a", POINTS, {0, 1}, OBJECTIVES)
    (axes,) = figure.axes
    lines = {str(line.get_label()): np.asarray(line.get_xydata()) for line in axes.get_lines()}
    dots = {str(dot.get_label()): np.asarray(dot.get_offsets()) for dot in axes.collections}

    assert lines["front"].tolist() == [[0.02, 91.0], [0.029, 95.0]]
    assert [line.get_linestyle() for line in axes.get_lines()][:2] == ["--", "--"]
    assert dots["feasible"].tolist() == [[0.025, 90.0]]
    assert dots["infeasible"].tolist() == [[0.005, 80.0], [0.05, 10.0]]
    low = axes.get_ylim()[0]
    assert dots[BELOW].tolist() == [[0.005, low], [0.05, low]]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "score (micronet2019), lower is better"
    assert axes.get_ylabel() == "accuracy on the validation split, %"
    assert [text.get_text() for text in axes.texts] == ["0", "1"]


def test_all_accuracies_show_until_the_goal_is_reached() -> None:
    (axes,) = front_figure("a", POINTS[3:], set(), OBJECTIVES).axes
    assert axes.get_ylim()[0] < 10
    assert BELOW not in {str(found.get_label()) for found in axes.collections}


def test_pyplot_is_not_touched() -> None:
    front_figure("a", POINTS, {0}, OBJECTIVES)
    assert "matplotlib.pyplot" not in sys.modules


def test_no_number_covers_another_or_a_dot_of_the_front() -> None:
    crowd = [Point(100 + i, 0.9 + 0.0006 * i, 0.01 + 0.00004 * i, True) for i in range(60)]
    figure = front_figure("a", crowd, {point.trial for point in crowd}, OBJECTIVES)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    dots = axes.transData.transform([(point.score, 100 * point.accuracy) for point in crowd])
    assert 5 <= len(boxes) < 60
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert not any(box.contains(*dot) for box in boxes for dot in dots)


@pytest.mark.parametrize(("kind", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_picture_is_a_drawing_for_a_paper(kind: str, start: bytes) -> None:
    file = io.BytesIO()
    front_figure("a", POINTS, {0, 1}, OBJECTIVES).savefig(file, format=kind)
    assert file.getvalue().startswith(start)
