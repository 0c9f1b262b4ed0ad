"""What each choice of a study is worth: its importance, and the trials over its values."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from micronet_search.config.distributions import Distribution, Range, leaves
from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import MARKS, Figure, Trace, fill, line, log_axis
from micronet_search.report.page.words import listed, percent, short, short_names, shown
from micronet_search.search.encoding import encode
from micronet_search.study.history import FEWEST

_SLICES, _MOST = 6, 400


def worth(facts: Facts) -> Figure | None:
    """Draws how much each choice decides about accuracy and score, by PED-ANOVA."""
    found = facts.history.worth
    if not found:
        return None
    order, names = ranked(facts), short_names(ranked(facts))
    bars: list[Trace] = []
    looks = {"accuracy": ("@front", ""), "score": ("@win", "/")}
    for objective, (color, pattern) in looks.items():
        bars.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": objective,
                "x": [round(100 * found[objective].get(path, 0.0), 2) for path in order[::-1]],
                "y": [short(names[path]) for path in order[::-1]],
                "marker": fill(color, pattern),
                "hovertext": [html.escape(path) for path in order[::-1]],
                "hovertemplate": "%{hovertext}<br>%{x:.0f} %<extra>%{fullData.name}</extra>",
            }
        )
    layout = {
        "barmode": "group",
        "xaxis": {"title": {"text": "importance, %"}, "rangemode": "tozero"},
        "yaxis": {"automargin": True, "type": "category"},
    }
    return Figure(
        "worth",
        "What each choice is worth",
        _worth_note(facts),
        bars,
        layout,
        140 + 34 * len(order),
        wide=True,
    )


def ranked(facts: Facts) -> list[str]:
    """Returns the choices by what they are worth for both objectives together, the most first.

    Where that is not known, those come first that most trials had.
    """
    found = facts.history.worth.values()
    had = Counter(
        path
        for n in facts.complete
        if n in facts.history.draws
        for path in facts.history.draws[n].params
    )
    space = leaves(facts.view.sweep.space)
    return sorted(space, key=lambda path: (-sum(of.get(path, 0.0) for of in found), -had[path]))


def _worth_note(facts: Facts) -> str:
    said = []
    for objective, of in facts.history.worth.items():
        top = max(of, key=lambda path: of[path])
        said.append(f"{objective} depends most on {top} ({percent(of[top], 0)})")
    text = f"By PED-ANOVA, {listed(said)}: this tells the best trials from the others."
    if (count := len(facts.complete)) < 5 * FEWEST:
        text += f" With {count} complete trials these figures are rough."
    return text


def slices(facts: Facts) -> list[Figure]:
    """Draws accuracy and score over the values of each of the choices that are worth most."""
    numbers = sample(facts)
    space = leaves(facts.view.sweep.space)
    found = [path for path in ranked(facts) if len({*taken_by(facts, numbers, path).values()}) > 1]
    return [_slice(facts, path, space[path][0], numbers) for path in found[:_SLICES]]


def _slice(facts: Facts, path: str, of: Distribution, numbers: Sequence[int]) -> Figure:
    taken, front = taken_by(facts, numbers, path), set(facts.view.survey.front)
    traces: list[Trace] = []
    for kind, chosen in (("infeasible", False), ("front", True)):
        mine = [n for n in taken if (n in front) == chosen]
        axis = [_escaped(taken[n]) for n in mine]
        figures = (
            ("y", "%{y:.2f} %", [round(100 * facts.accuracy(n), 3) for n in mine]),
            ("y2", "score %{y:.4g}", [facts.view.score(n) for n in mine]),
        )
        for yaxis, text, y in figures if mine else ():
            hover = {"text": [str(n) for n in mine], "yaxis": yaxis, "showlegend": False}
            hover["hovertemplate"] = f"trial %{{text}}, %{{x}}: {text}<extra></extra>"
            marks = {"type": "scatter", "mode": "markers", "x": axis, "y": y}
            traces.append(marks | hover | {"marker": MARKS[kind] | {"opacity": 0.8}})
    xaxis: dict[str, Any] = {"anchor": "y2"}
    if isinstance(of, Range):
        xaxis |= {"type": "log"} if of.log else {}
    else:
        order = [option_text(of, option) for option in of.options()]
        places = [_escaped(text) for text in order]
        xaxis |= {"type": "category", "categoryorder": "array", "categoryarray": places}
        xaxis |= {"tickvals": places, "ticktext": [short(text, 13) for text in order]}
    scores = [facts.at_most, *(facts.view.score(n) for n in taken if facts.view.score(n) > 0)]
    layout = {
        "margin": {"l": 66},
        "xaxis": xaxis,
        "yaxis": {"title": {"text": "accuracy, %"}, "domain": [0.54, 1]},
        "yaxis2": log_axis(min(scores), max(scores), "score") | {"domain": [0, 0.46]},
        "shapes": [line("y", 100 * facts.view.goal), line("y2", facts.at_most)],
    }
    return Figure(f"slice-{path}", path, _slice_note(facts, taken), traces, layout, 340)


def _slice_note(facts: Facts, taken: Mapping[int, Any]) -> str:
    """Says which value has the best trials; of numbers, how they go with both objectives."""
    front = [value for number, value in taken.items() if number in facts.view.survey.front]
    if all(isinstance(value, int | float) for value in taken.values()):
        if len(taken) < 5:
            return "Too few trials to say more."
        accuracy = _rank_correlation(taken, {n: facts.accuracy(n) for n in taken})
        score = _rank_correlation(taken, {n: facts.view.score(n) for n in taken})
        text = f"Greater values go with {_more(accuracy, 'accuracy')} and {_more(score, 'score')}."
        if front:
            text += f" The front has {shown(min(front))}"
            text += f" to {shown(max(front))}." if max(front) > min(front) else "."
        return text
    groups: dict[Any, list[float]] = {}
    for number, value in taken.items():
        groups.setdefault(value, []).append(facts.accuracy(number))
    means = {value: sum(found) / len(found) for value, found in groups.items()}
    best = max(means, key=lambda value: means[value])
    text = f"The mean accuracy is highest with {best}: {percent(means[best])}"
    if front:
        text += f"; the front has {listed(sorted(set(map(str, front))), 4)}"
    return text + "."


def _rank_correlation(x: Mapping[int, Any], y: Mapping[int, float]) -> float:
    """Returns Spearman's correlation; 0 where one of both is constant."""
    from scipy.stats import rankdata

    a, b = (rankdata([of[n] for n in x]) for of in (x, y))
    spread = float(a.std() * b.std())
    return 0.0 if spread == 0 else float(((a - a.mean()) * (b - b.mean())).mean()) / spread


def _more(correlation: float, what: str) -> str:
    if abs(correlation) < 0.25:
        return f"neither more nor less {what}" if what == "accuracy" else f"no other {what}"
    word = {"accuracy": ("less", "more"), "score": ("a lower", "a higher")}[what][correlation > 0]
    return f"{word} {what}"


def sample(facts: Facts) -> list[int]:
    """Returns the complete trials, or the front and some of the others where there are many."""
    front = set(facts.view.survey.front)
    others = [number for number in facts.complete if number not in front]
    step = max(1, math.ceil(len(others) / _MOST))
    return sorted([*front, *others[::step]])


def taken_by(facts: Facts, numbers: Sequence[int], path: str) -> dict[int, Any]:
    """Returns which value of a choice each trial took, of those that had the choice."""
    of, draws = leaves(facts.view.sweep.space)[path][0], facts.history.draws
    found = {n: draws[n].params[path] for n in numbers if n in draws and path in draws[n].params}
    return {n: v if isinstance(of, Range) else shown(v) for n, v in found.items()}


def option_text(of: Distribution, option: Any) -> str:
    """Returns an option as `taken_by` tells that it was taken."""
    return shown(encode(of, option))


def _escaped(value: Any) -> Any:
    """Returns a value for an axis, where Plotly takes text for HTML."""
    return html.escape(value) if isinstance(value, str) else value
