"""What the repeats of a study say: accuracies on the test split."""

import statistics
from collections.abc import Sequence

from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import MARKS, Figure, dots, label, line
from micronet_search.report.page.words import listed, points


def confirmed(facts: Facts) -> Figure | None:
    """Draws the test accuracies of what was repeated, with their 95 % intervals."""
    view = facts.view
    found = {n: one for n, one in sorted(view.confirmations.items()) if one.accuracies}
    if not found:
        return None
    order = sorted(found, key=view.score)
    names = [f"trial {number}" for number in order]
    means = [100 * found[n].mean for n in order]
    low, high = ([100 * found[n].interval[i] for n in order] for i in (0, 1))
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [h - m for h, m in zip(high, means, strict=True)],
        "arrayminus": [m - x for m, x in zip(means, low, strict=True)],
    }
    seeds = [(f"trial {n}", 100 * a) for n in order for a in found[n].accuracies.values()]
    hover = {"hovertemplate": "%{x}: %{y:.2f} %<extra></extra>"}
    validation = [100 * facts.accuracy(n) for n in order]
    traces = [
        dots("infeasible", names, validation, "validation, in the search", **hover),
        dots(
            "stopped", [name for name, _ in seeds], [value for _, value in seeds], "test, each seed"
        )
        | hover
        | {"marker": MARKS["stopped"] | {"color": "@ink", "symbol": "line-ew-open"}},
        dots("front", names, means, "test, mean", error_y=bars | {"color": "@front"}, **hover),
    ]
    goal = 100 * view.goal
    place = {"xref": "paper", "xanchor": "right", "yanchor": "bottom"}
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": "accuracy, %"}},
        "shapes": [line("y", goal)],
        "annotations": [label(f"goal {goal:g} %", 1, goal, **place)],
    }
    return Figure(
        "confirmed",
        "Confirmed on the test split",
        _note(facts, order),
        traces,
        layout,
        340,
        wide=True,
    )


def _note(facts: Facts, order: Sequence[int]) -> str:
    view = facts.view
    sure = [f"trial {n}" for n in order if view.confirmations[n].reaches(view.goal)]
    said = f"{listed(sure)} {'is' if len(sure) == 1 else 'are'}" if sure else "None is"
    said = said[0].upper() + said[1:]
    note = f"{said} confirmed: the mean test accuracy less a standard error is at the goal."
    mean = statistics.fmean(facts.accuracy(n) - view.confirmations[n].mean for n in order)
    than = "above" if mean > 0 else "below"
    note += f" The accuracies of the search were {points(mean)} {than} the test's on average."
    note += " Bars are 95 % intervals for new images."
    return note
