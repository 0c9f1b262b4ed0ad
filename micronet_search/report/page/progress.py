"""How the front grew: hypervolume and best score over trials and over time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import Figure, Trace, line
from micronet_search.report.page.words import counted, duration, percent
from micronet_search.study.survey import Survey, extended, stagnant_trials

_HOURS = 3600


def progress(facts: Facts) -> list[Figure]:
    """Draws the hypervolume and the best score, over the trials that have ended and over time."""
    view = facts.view
    if not view.survey.front:
        return list(_approach(facts))
    goals, found, surveys = view.sweep.objectives, Survey(), []
    order = sorted(view.outcomes, key=lambda number: (view.outcomes[number].ended, number))
    for number in order:
        found = extended(found, number, view.outcomes, goals)
        surveys.append(found)
    begun = min(outcome.started for outcome in view.outcomes.values())
    passed = [(view.outcomes[number].ended - begun) / _HOURS for number in order]
    scale, unit = (1, "hours") if passed[-1] >= 2 else (60, "minutes")
    over = [round(scale * hours, 3) for hours in passed]
    trials = list(range(1, len(order) + 1))
    return [
        Figure(
            "over-trials",
            "Progress over trials",
            _growth(facts),
            _steps(trials, surveys),
            _layout("trials that have ended"),
        ),
        Figure(
            "over-time",
            "Progress over time",
            _pace(facts, passed[-1]),
            _steps(over, surveys),
            _layout(f"{unit} since the first trial began"),
        ),
    ]


def _approach(facts: Facts) -> Iterator[Figure]:
    """Yields how close trials came to the goal while none is feasible."""
    outcomes, best = facts.view.outcomes, 0.0
    order = sorted(facts.complete, key=lambda number: (outcomes[number].ended, number))
    reached = []
    for number in order:
        if facts.view.score(number) <= facts.at_most:
            best = max(best, facts.accuracy(number))
        reached.append(round(100 * best, 3) or None)
    if best:
        steps = {"x": list(range(1, len(order) + 1)), "y": reached, "mode": "lines"}
        looks = {"shape": "hv", "width": 2, "color": "@front"}
        hover = "%{x}: %{y:.2f} %<extra></extra>"
        trace = steps | {"type": "scatter", "line": looks, "hovertemplate": hover}
        layout = {
            "xaxis": {"title": {"text": "complete trials"}, "rangemode": "tozero"},
            "yaxis": {"title": {"text": "best accuracy, %"}},
            "shapes": [line("y", 100 * facts.view.goal)],
        }
        note = f"The best accuracy within the goal for the score is {percent(best)}; the "
        note += f"hypervolume is 0 until it reaches {percent(facts.view.goal)}, the dashed line."
        yield Figure("approach", "Progress towards the goal", note, [trace], layout, 300, wide=True)


def _steps(x: Sequence[float], surveys: Sequence[Survey]) -> list[Trace]:
    steps = {"type": "scatter", "mode": "lines", "x": x, "showlegend": False}
    shape = {"shape": "hv", "width": 2}
    return [
        steps
        | {"y": [found.hypervolume for found in surveys], "line": shape | {"color": "@front"}}
        | {"hovertemplate": "%{x}: hypervolume %{y:.4g}<extra></extra>"},
        steps
        | {"y": [found.best_score for found in surveys], "yaxis": "y2"}
        | {"line": shape | {"color": "@win", "dash": "dashdot"}}
        | {"hovertemplate": "%{x}: best score %{y:.4g}<extra></extra>"},
    ]


def _layout(over: str) -> dict[str, Any]:
    return {
        "xaxis": {"title": {"text": over}, "rangemode": "tozero", "anchor": "y2"},
        "margin": {"l": 92},
        "yaxis": {"title": {"text": "hypervolume"}, "domain": [0.55, 1], "rangemode": "tozero"},
        "yaxis2": {"title": {"text": "best score"}, "domain": [0, 0.45]},
    }


def _growth(facts: Facts) -> str:
    view = facts.view
    since = stagnant_trials(view.survey, view.outcomes, view.sweep.objectives)
    text = f"The hypervolume is {view.survey.hypervolume:.4g}: the area between the front and the "
    text += "two goals, larger is better. "
    if since:
        return text + f"It has not grown over the last {counted(since, 'trial')}."
    return text + "It grew with the last trial: more trials are likely to bring more."


def _pace(facts: Facts, hours: float) -> str:
    ended, seconds = len(facts.view.outcomes), hours * _HOURS
    text = f"{counted(ended, 'trial')} ended within {duration(seconds)} by the clock on the wall, "
    text += "pauses between starts included"
    if facts.seconds is not None:
        text += f"; the driver ran for {duration(facts.seconds)}"
    return text + "."
