"""All choices of the trials side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from micronet_search.config.distributions import Range, leaves
from micronet_search.report.page.choices import option_text, ranked, sample, taken_by
from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import Figure, Trace, label
from micronet_search.report.page.words import counted, short, short_names, shown

_MOST = 10  # the choices that have room side by side


@dataclass(frozen=True)
class _Axis:
    """An upright axis: the height of each trial on it, 0 to 1, and its labels by their heights."""

    name: str
    heights: Mapping[int, float]
    labels: Mapping[float, str]


def parallel(facts: Facts) -> Figure | None:
    """Draws each complete trial as a line over its choices, its accuracy and its score."""
    numbers = sample(facts)
    paths = [path for path in ranked(facts) if taken_by(facts, numbers, path)]
    if not paths:
        return None
    names = short_names(paths)
    axes = [_choice(facts, path, names[path], numbers) for path in paths[:_MOST]]
    accuracies = {n: 100 * facts.accuracy(n) for n in numbers}
    axes.append(_numbers("accuracy, %", accuracies, ".1f"))
    axes.append(_numbers("score", {n: facts.view.score(n) for n in numbers}, ".3g", log=True))
    front = [n for n in numbers if n in facts.view.survey.front]
    others = [n for n in numbers if n not in front]
    traces = [_lines(axes, others, "complete", "@grey", 1.0, "solid")]
    if front:
        traces.append(_lines(axes, front, "front", "@front", 2.5, "solid"))
    if facts.best:
        name = f"trial {facts.best.number}"
        traces.append(_lines(axes, [facts.best.number], name, "@win", 4.0, "dot"))
    layout = {
        "xaxis": {
            "tickvals": list(range(len(axes))),
            "ticktext": [short(axis.name, 20) for axis in axes],
            "tickangle": -35,
            "automargin": True,
            "range": [-0.4, len(axes) - 0.4],
        },
        "yaxis": {"visible": False, "range": [-0.1, 1.1]},
        "annotations": [
            label(text, x, height, xanchor="left", xshift=4, bgcolor="@veil", font={"size": 11})
            for x, axis in enumerate(axes)
            for height, text in axis.labels.items()
        ],
    }
    note = _note(facts, len(numbers), len(paths))
    return Figure("parallel", "All choices side by side", note, traces, layout, 460, wide=True)


def _note(facts: Facts, drawn: int, paths: int) -> str:
    text = f"Each line is one of {counted(drawn, 'complete trial')}: its choices, those first that "
    text += "are worth most" if facts.history.worth else "most trials had"
    text += ", then its accuracy and its score"
    if paths > _MOST:
        text += f"; {paths - _MOST} choices that follow are left out"
    if drawn < len(facts.complete):
        text += f"; the front and a part of all {len(facts.complete):,}"
    if facts.best:
        text += f". The dotted line is trial {facts.best.number}"
    return text + "."


def _choice(facts: Facts, path: str, name: str, numbers: Sequence[int]) -> _Axis:
    of, taken = leaves(facts.view.sweep.space)[path][0], taken_by(facts, numbers, path)
    if isinstance(of, Range):
        return _numbers(name, taken, ".3g", log=of.log, ends=(of.low, of.high))
    options = [option_text(of, option) for option in of.options()]
    place = {text: i / max(1, len(options) - 1) for i, text in enumerate(options)}
    heights = {number: place[text] for number, text in taken.items() if text in place}
    return _Axis(name, heights, {height: short(text, 16) for text, height in place.items()})


def _numbers(
    name: str,
    values: Mapping[int, float],
    form: str,
    log: bool = False,
    ends: tuple[float, float] | None = None,
) -> _Axis:
    low, high = ends or (min(values.values()), max(values.values()))
    turn = math.log if log and low > 0 else float
    span = (turn(high) - turn(low)) or 1.0
    heights = {n: round((turn(value) - turn(low)) / span, 4) for n, value in values.items()}
    texts = (shown(low), shown(high)) if ends else (f"{low:{form}}", f"{high:{form}}")
    return _Axis(name, heights, {0.0: texts[0], 1.0: texts[1]})


def _lines(
    axes: Sequence[_Axis], numbers: Sequence[int], name: str, color: str, width: float, dash: str
) -> Trace:
    """Returns the lines of some trials as one trace; a choice that a trial lacks is passed over."""
    x: list[Any] = []
    y: list[Any] = []
    for number in numbers:
        for place, axis in enumerate(axes):
            if (height := axis.heights.get(number)) is not None:
                x.append(place)
                y.append(height)
        x.append(None)
        y.append(None)
    drawn = {"color": color, "width": width, "dash": dash}
    faint = 0.65 if color == "@grey" else 1.0
    return {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": drawn} | {
        "hoverinfo": "skip",
        "opacity": faint,
    }
