"""The front of a study: accuracy over score."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable
from typing import Any

from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import Figure, Trace, dots, label, line, log_axis
from micronet_search.report.page.words import choice_lines, counted, percent

_LETTERS = "ABCDEFGHIJ"
_MOST_LINES = 14  # of choices, where the pointer is


def front(facts: Facts) -> Figure:
    """Draws every trial with its accuracy and score, the goals, and what others reached."""
    goal, traces = 100 * facts.view.goal, list(_traces(facts))
    scores = [x for trace in traces for x in trace["x"] if x > 0]
    low, high = min([*scores, facts.at_most]), max([*scores, facts.at_most])
    bottom, top = _range(facts)
    ceiling = {"yref": "paper", "xanchor": "right", "yanchor": "top", "xshift": -4}
    rule = facts.view.sweep.objectives.score.rule
    layout = {
        "xaxis": log_axis(low, high, f"score ({rule}), lower is better"),
        "yaxis": {"title": {"text": "accuracy, %"}, "range": [bottom, top]},
        "yaxis2": {"overlaying": "y", "range": [0, 1], "visible": False, "fixedrange": True},
        "shapes": [line("x", facts.at_most), line("y", goal)],
        "annotations": [
            label(f"goal {goal:g} %", 0, goal, xref="paper", xanchor="left", yanchor="bottom"),
            label(f"goal {facts.at_most:g}", math.log10(facts.at_most), 1, **ceiling),
        ],
    }
    return Figure("front", "The front", _note(facts, bottom), traces, layout, 480, wide=True)


def _traces(facts: Facts) -> Iterable[Trace]:
    view, front, feasible = facts.view, facts.view.survey.front, set(facts.feasible)
    screened = [draw.score for draw in facts.history.draws.values() if draw.score is not None]
    if screened:
        hover = "screened: predicted score %{x:.4g}<extra></extra>"
        place = {"yaxis": "y2", "hovertemplate": hover}
        yield dots("screened", screened, [0.015] * len(screened), "screened", **place)
    kinds = {
        "stopped": facts.stopped,
        "infeasible": [n for n in facts.complete if n not in feasible],
        "feasible": [n for n in facts.feasible if n not in front],
    }
    for kind, numbers in kinds.items():
        if numbers := [n for n in numbers if view.score(n) > 0]:
            yield _marked(facts, kind, kind, numbers)
    if front:
        drawn = {"mode": "lines+markers", "line": {"color": "@front", "width": 2, "shape": "hv"}}
        yield _marked(facts, "front", "front", list(front)) | drawn
    if facts.known:
        found = {
            "mode": "markers+text",
            "text": list(_LETTERS[: len(facts.known)]),
            "textposition": "top center",
            "textfont": {"color": "@known"},
            "hovertext": [html.escape(known.name) for known in facts.known],
            "hovertemplate": "%{hovertext}<br>%{y:.1f} %, score %{x:.4g}<extra></extra>",
        }
        places = [k.score for k in facts.known], [100 * k.accuracy for k in facts.known]
        yield dots("known", *places, "known results") | found
    if facts.best and facts.best.feasible:
        yield _marked(facts, "winner", f"winner: trial {facts.best.number}", [facts.best.number])
    elif facts.best:
        yield _marked(facts, "winner", f"closest: trial {facts.best.number}", [facts.best.number])


def _marked(facts: Facts, kind: str, name: str, numbers: list[int]) -> Trace:
    scores = [facts.view.score(number) for number in numbers]
    accuracies = [round(100 * facts.accuracy(number), 3) for number in numbers]
    hover = [describe(facts, number) for number in numbers]
    shown = {"hovertext": hover, "hovertemplate": "%{hovertext}<extra></extra>"}
    return dots(kind, scores, accuracies, name) | shown


def describe(facts: Facts, number: int) -> str:
    """Returns what is shown of a trial where the pointer is on it."""
    outcome, rule = facts.view.outcomes[number], facts.view.sweep.objectives.score.rule
    parts = outcome.scores[rule]
    lines = [
        f"<b>trial {number}</b>, {outcome.state}",
        f"accuracy {percent(facts.accuracy(number))}",
        f"score {parts['score']:.4g} = {parts['parameters']:.3g} stored "
        f"+ {parts['operations']:.3g} computed",
    ]
    if (found := facts.view.confirmations.get(number)) and found.accuracies:
        lines.append(f"test {percent(found.mean)}, {counted(len(found.accuracies), 'seed')}")
    if draw := facts.history.draws.get(number):
        lines += map(html.escape, choice_lines(draw.params, _MOST_LINES))
    return "<br>".join(lines)


def _range(facts: Facts) -> tuple[float, float]:
    """Returns the accuracies to begin with: around the goal, once it is reached."""
    goal = 100 * facts.view.goal
    known = [100 * known.accuracy for known in facts.known]
    found = [100 * facts.accuracy(number) for number in (*facts.complete, *facts.stopped)]
    top, bottom = max([goal, *found, *known]), min([goal, *found, *known])
    if facts.feasible:
        bottom = max(bottom, goal - max(top - goal, 3.0))
    space = max(0.08 * (top - bottom), 0.5)
    return bottom - space, min(top + space, 101.0)


def _note(facts: Facts, bottom: float) -> str:
    trials, front = len(facts.view.outcomes), facts.view.survey.front
    text = f"Of {counted(trials, 'trial')}, {len(facts.feasible)} reach every goal"
    if front:
        first, last = facts.accuracy(front[0]), facts.accuracy(front[-1])
        ends = f"at {percent(first)}, score {facts.view.score(front[0]):.4g}"
        if len(front) > 1:
            cost = facts.view.score(front[-1])
            ends = f"from {percent(first)} at score {facts.view.score(front[0]):.4g} to "
            ends += f"{percent(last)} at score {cost:.4g}"
        text += f", and {len(front)} of them {'is' if len(front) == 1 else 'are'} the front, {ends}"
    text += ". Accuracies are those of the validation split; up and left is better."
    if facts.best and facts.best.confirmed and facts.best.number not in facts.feasible:
        text += (
            f" Trial {facts.best.number} is below the goal here, but above it on the test split."
        )
    below = sum(
        100 * facts.accuracy(number) < bottom for number in (*facts.complete, *facts.stopped)
    )
    if below:
        are = "1 trial lies" if below == 1 else f"{below} trials lie"
        text += f" {are} below this range: a double click shows all."
    if any(draw.score is not None for draw in facts.history.draws.values()):
        text += " Ticks at the lower edge are draws that were screened by their predicted score."
    if facts.known:
        names = [f"{_LETTERS[i]}: {known.name}" for i, known in enumerate(facts.known)]
        text += f" Known results, on the test images: {'; '.join(names)}."
    return text


def table(facts: Facts) -> tuple[list[str], list[list[str]]]:
    """Returns the front as the heads of columns and rows of text, cheapest first."""
    heads = ["trial", "accuracy", facts.view.score_title, "nonzeros", "MACs", "bytes"]
    has_tests = bool(facts.view.confirmations)
    rows: list[list[str]] = []
    numbers = list(facts.view.survey.front)
    if facts.best and facts.best.feasible and facts.best.number not in numbers:
        numbers = sorted([*numbers, facts.best.number], key=facts.view.score)
    for number in numbers:
        outcome: Any = facts.view.outcomes[number]
        row = [str(number), percent(outcome.accuracy), f"{facts.view.score(number):.6f}"]
        row += [f"{outcome.nonzeros:,}", f"{outcome.macs:,}", f"{outcome.storage_bytes:,}"]
        rows.append(row + ([_tested(facts, number)] if has_tests else []))
    return heads + (["test accuracy"] if has_tests else []), rows


def _tested(facts: Facts, number: int) -> str:
    found = facts.view.confirmations.get(number)
    if found is None or not found.accuracies:
        return "not repeated"
    spread = "" if found.deviation is None else f" ± {100 * found.deviation:.2f}"
    verdict = "confirmed" if found.reaches(facts.view.goal) else "not confirmed"
    return f"{100 * found.mean:.2f}{spread} %, {verdict}"
