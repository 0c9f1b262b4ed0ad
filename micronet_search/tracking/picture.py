"""The picture of a study's front."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from micronet_search.config.sweep import Objectives

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

BELOW = "below this range"
_DOT = 3.0  # points, half a dot of the front
_PLACES: Sequence[
    tuple[
        tuple[float, float],
        Literal["left", "center", "right"],
        Literal["bottom", "top"],
    ]
] = (
    ((0, 5), "center", "bottom"),
    ((-5, 4), "right", "bottom"),
    ((5, -4), "left", "top"),
    ((0, -5), "center", "top"),
)
"""Where a number may stand beside its dot, in points, the best place first."""

RED, GREY, BLUE, DARK_BLUE = "#b03a2e", "#b8bfc8", "#4a7fb5", "#1b4f72"


@dataclass(frozen=True)
class Point:
    """One trial in the picture: its accuracy (0 to 1), and its score by the study's score rule."""

    trial: int
    accuracy: float
    score: float
    feasible: bool


def front_figure(
    name: str, points: Sequence[Point], front: Collection[int], objectives: Objectives
) -> Figure:
    """Draws accuracy over score: trials as dots, the front as a stepped line, the goals dashed.

    Of the complete and the stopped trials, those that have no place on the axes are left out: their
    score is not positive, or a figure is not a number. The front is the numbers of its trials.
    """
    from matplotlib.figure import Figure

    shown = [point for point in points if point.score > 0 and point.accuracy >= 0]
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    _draw_axes(axes, shown, objectives)
    axes.set_title(name)
    _draw_trials(axes, [point for point in shown if point.trial not in front])
    best = sorted((point for point in shown if point.trial in front), key=attrgetter("score"))
    if best:
        _draw_front(axes, best)
    axes.legend(loc="lower right", framealpha=0.85, edgecolor="none", fontsize=9)
    _draw_numbers(figure, axes, best)
    return figure


def _draw_axes(axes: Axes, points: Sequence[Point], objectives: Objectives) -> None:
    """Draws the goals and axes for all scores, and for accuracies around a goal that is reached."""
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    goal, ceiling = 100 * objectives.accuracy.at_least, objectives.score.at_most
    scores = [ceiling, *(point.score for point in points)]
    low, high = min(scores), max(scores)
    margin = max((5 * low / high) ** 0.5, 1.1)  # at least a factor of five, for enough ticks
    axes.set_xscale("log")
    axes.set_xlim(low / margin, high * margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"score ({objectives.score.rule}), lower is better")

    accuracies = [goal, *(100 * point.accuracy for point in points)]
    top, bottom = max(accuracies), min(accuracies)
    if any(point.feasible for point in points):
        bottom = max(bottom, goal - max(top - goal, 3.0))
    space = max(0.06 * (top - bottom), 1.0)
    axes.set_ylim(bottom - space, min(top + space, 101.0))
    axes.set_ylabel("accuracy on the validation split, %")

    axes.grid(True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.axhline(goal, color=RED, linestyle="--", linewidth=1, zorder=1)
    axes.axvline(ceiling, color=RED, linestyle="--", linewidth=1, zorder=1, label="goals")


def _draw_trials(axes: Axes, points: Sequence[Point]) -> None:
    """Draws dots, and a triangle at the lower edge for a trial that lies below it."""
    bottom = axes.get_ylim()[0]
    kinds = [
        (BELOW, "v", GREY, 16, [p for p in points if 100 * p.accuracy < bottom]),
        ("infeasible", "o", GREY, 16, [p for p in points if not p.feasible]),
        ("feasible", "o", BLUE, 22, [p for p in points if p.feasible]),
    ]
    for label, marker, color, size, found in kinds:
        if found:
            is_below = label == BELOW
            accuracies = [bottom if is_below else 100 * point.accuracy for point in found]
            dots = axes.scatter(
                [point.score for point in found], accuracies, size, color, marker=marker
            )
            dots.set(label=label, clip_on=not is_below, zorder=2)
            if label == "infeasible":  # told apart without colour too
                dots.set(facecolor="none", edgecolor=color)


def _draw_front(axes: Axes, front: Sequence[Point]) -> None:
    """Draws the best accuracy known up to each score."""
    scores, accuracies = [p.score for p in front], [100 * p.accuracy for p in front]
    axes.step(scores, accuracies, DARK_BLUE, where="post", marker="o", markersize=5, label="front")


def _draw_numbers(figure: Figure, axes: Axes, front: Sequence[Point]) -> None:
    """Writes each trial's number beside its dot, where it covers nothing of the front."""
    if not front:
        return
    figure.draw_without_rendering()  # lays it out, so that places are known
    taken, whole = list(_occupied(figure, axes, front)), axes.get_window_extent()
    for point in front:
        for place, across, along in _PLACES:
            text = axes.annotate(
                str(point.trial),
                (point.score, 100 * point.accuracy),
                place,
                textcoords="offset points",
                ha=across,
                va=along,
                fontsize=8,
            )
            box = text.get_window_extent()
            inside = whole.x0 <= box.x0 and box.x1 <= whole.x1 and box.y1 <= whole.y1
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()


def _occupied(figure: Figure, axes: Axes, front: Sequence[Point]) -> Iterator[Bbox]:
    """Yields where numbers cannot stand: the dots of the front, its upright lines, the legend."""
    from matplotlib.transforms import Bbox

    dots = axes.transData.transform([(p.score, 100 * p.accuracy) for p in front])
    around = figure.dpi * _DOT / 72
    for x, y in dots:
        yield Bbox.from_extents(x - around, y - around, x + around, y + around)
    for (_, low), (x, high) in pairwise(dots):
        yield Bbox.from_extents(x - 1, low, x + 1, high)
    if (legend := axes.get_legend()) is not None:
        yield legend.get_window_extent()
