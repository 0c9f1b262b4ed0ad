"""The learning curves of a study, with stages and rungs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import Figure, Trace, dots, label, line
from micronet_search.report.page.words import counted, listed
from micronet_search.store.outcome import Epoch

_TRIALS, _EPOCHS = 60, 60
_STAGES = {"thin": "triangle-up", "factorize": "hexagon", "prune": "square", "quantize": "diamond"}


def curves(facts: Facts) -> Figure | None:
    """Draws the accuracy of trials over their epochs, marked where a stage begins."""
    view, front = facts.view, facts.view.survey.front
    numbers = [n for n in (*facts.complete, *facts.stopped) if view.outcomes[n].curve]
    if not numbers:
        return None
    best = [facts.best.number] if facts.best else []
    drawn = sorted({*best, *front[: _TRIALS // 2]} & set(numbers))
    others = [n for n in numbers if n not in drawn]
    others = others[:: max(1, math.ceil(len(others) / (_TRIALS - len(drawn))))]
    stopped = set(facts.stopped)
    kinds = (
        ("stopped", "@grey", 1.0, "dot", [n for n in others if n in stopped]),
        ("complete", "@grey", 1.0, "solid", [n for n in others if n not in stopped]),
        ("front", "@front", 2.0, "solid", [n for n in drawn if n in front and n not in best]),
        (f"trial {best[0]}" if best else "", "@win", 3.5, "solid", [n for n in drawn if n in best]),
    )
    traces = [
        _lines(facts, found, {"color": color, "width": width, "dash": dash}, name)
        for name, color, width, dash, found in kinds
        if found
    ]
    traces += _marks(facts, [*drawn, *others])
    rungs = sorted({len(view.outcomes[n].curve) for n in facts.stopped})
    layout = {
        "xaxis": {"title": {"text": "epochs over all stages"}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": "accuracy, %"}},
        "shapes": [line("y", 100 * view.goal), *(line("x", r, "dot", "@grey") for r in rungs[:8])],
        "annotations": [
            label(f"rung {r}", r, 1, yref="paper", yanchor="bottom", font={"size": 11})
            for r in rungs[:4]
        ],
    }
    note = _note(facts, len(drawn) + len(others), len(numbers), rungs)
    return Figure("curves", "Learning curves", note, traces, layout, 440, wide=True)


def _lines(facts: Facts, numbers: Sequence[int], drawn: dict[str, Any], name: str) -> Trace:
    """Returns the curves of some trials as one trace, with gaps between them."""
    x: list[Any] = []
    y: list[Any] = []
    text: list[str] = []
    for number in numbers:
        rows = _thinned(facts.view.outcomes[number].curve)
        x += [*(row.epoch for row in rows), None]
        y += [*(round(100 * row.accuracy, 2) for row in rows), None]
        text += [*(f"trial {number}, {row.stage}" for row in rows), ""]
    hover = {"text": text, "hovertemplate": "%{text}<br>epoch %{x}: %{y:.2f} %<extra></extra>"}
    faint = 0.7 if drawn["color"] == "@grey" else 1.0
    trace = {"type": "scatter", "mode": "lines", "name": name, "x": x, "y": y, "line": drawn}
    return trace | hover | {"opacity": faint}


def _thinned(curve: Sequence[Epoch]) -> list[Epoch]:
    """Returns every k-th row of a long curve, the last of each stage included."""
    step = max(1, math.ceil(len(curve) / _EPOCHS))
    ends = {i for i in range(len(curve) - 1) if curve[i].stage != curve[i + 1].stage}
    keep = {*range(0, len(curve), step), *ends, len(curve) - 1}
    return [curve[i] for i in sorted(keep)]


def _marks(facts: Facts, numbers: Sequence[int]) -> list[Trace]:
    """Returns a mark for each stage after the first, where it begins, and for each early end."""
    found: dict[str, list[tuple[int, float]]] = {}
    for number in numbers:
        curve = facts.view.outcomes[number].curve
        for before, row in pairwise(curve):
            if row.stage != before.stage:
                found.setdefault(row.stage, []).append((row.epoch, 100 * row.accuracy))
        if number in facts.stopped:
            found.setdefault("stopped", []).append((curve[-1].epoch, 100 * curve[-1].accuracy))
    traces = []
    for stage, places in found.items():
        x, y = zip(*places, strict=True)
        name = "stopped here" if stage == "stopped" else f"{stage} begins"
        trace = dots("stopped", list(x), list(y), name, hoverinfo="skip")
        symbol = "x-thin-open" if stage == "stopped" else _STAGES.get(stage, "cross") + "-open"
        traces.append(trace | {"marker": {"symbol": symbol, "size": 7, "color": "@ink"}})
    return traces


def _note(facts: Facts, drawn: int, of: int, rungs: Sequence[int]) -> str:
    text = f"The curves of {counted(drawn, 'trial')}"
    text += f" of {of:,}: the front and every so many of the others." if drawn < of else "."
    outcomes = facts.view.outcomes
    stages = dict.fromkeys(row.stage for n in facts.complete for row in outcomes[n].curve)
    if len(stages) > 1:
        text += f" The stages are {listed(stages)}."
    if rungs:
        at = f"epoch {rungs[0]}" if len(rungs) == 1 else f"epochs {rungs[0]} to {rungs[-1]}"
        text += f" {counted(len(facts.stopped), 'trial')} ended at a rung, {at}."
    return text
