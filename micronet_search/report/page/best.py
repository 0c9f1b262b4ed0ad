"""The best network of a study: what each stage cost it, and where its own cost sits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby, pairwise

from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import MARKS, Figure, Trace, fill, line
from micronet_search.report.page.words import percent, points, short
from micronet_search.scoring.cost import Cost, Layer
from micronet_search.scoring.rules import RULES, Score

_MOST = 24  # the layers that have a row of their own


def stages(facts: Facts) -> Figure | None:
    """Draws the accuracy of the best network at the end of each stage, and what each stage lost."""
    found = accuracies(facts)
    if len(found) < 2:
        return None
    names, values = zip(*found, strict=True)
    lost = [b - a for a, b in pairwise(values)]
    texts = [f"{100 * values[0]:.2f}", *(f"{100 * change:+.2f}" for change in lost)]
    trace: Trace = {
        "type": "scatter",
        "mode": "lines+markers+text",
        "x": list(names),
        "y": [round(100 * value, 3) for value in values],
        "text": texts,
        "textposition": "top center",
        "cliponaxis": False,
        "line": {"color": "@win", "width": 2, "shape": "hvh"},
        "marker": MARKS["front"] | {"color": "@win"},
        "hovertemplate": "%{x}: %{y:.2f} %<extra></extra>",
        "showlegend": False,
    }
    layout = {
        "xaxis": {"type": "category"},
        "yaxis": {"title": {"text": "accuracy, %"}},
        "shapes": [line("y", 100 * facts.view.goal)],
    }
    return Figure(
        "stages", "Accuracy lost by each stage", _lost(facts), [trace], layout, 320, wide=True
    )


def accuracies(facts: Facts) -> list[tuple[str, float]]:
    """Returns the stages of the best network in their order, and the accuracy after each, 0 to 1.

    The last ones are that of the network as it is stored, and its mean on the test split.
    """
    if facts.best is None:
        return []
    outcome = facts.view.outcomes[facts.best.number]
    groups = groupby(outcome.curve, key=lambda row: row.stage)
    found = [(stage, list(rows)[-1].accuracy) for stage, rows in groups]
    found.append(("stored", facts.accuracy(facts.best.number)))
    tested = facts.view.confirmations.get(facts.best.number)
    if tested and tested.accuracies:
        found.append(("test, mean", tested.mean))
    return found


def _lost(facts: Facts) -> str:
    assert facts.best is not None
    found = [pair for pair in accuracies(facts) if pair[0] != "test, mean"]
    changes = [(b[0], b[1] - a[1]) for a, b in pairwise(found)]
    total = found[-1][1] - found[0][1]
    text = f"From the end of its fit to the network as stored, trial {facts.best.number} "
    text += f"{'lost' if total < 0 else 'gained'} {points(total)}"
    stage, least = min(changes, key=lambda change: change[1])
    if least < 0 and len(changes) > 1:
        text += f"; {stage} alone cost {points(least)}"
    return text + ", on the validation split."


def by_layer(cost: Cost, rule: str) -> list[tuple[Layer, Score]]:
    """Returns what each layer that costs something adds to the score, in their order."""
    rows = [(layer, RULES[rule](replace(cost, layers=(layer,)))) for layer in cost.layers]
    return [(layer, found) for layer, found in rows if found.score > 0]


def cost(facts: Facts) -> Figure | None:
    """Draws the share of the score of each layer of the best network, its bits and its zeros."""
    if facts.best is None or facts.best.cost is None:
        return None
    rows = by_layer(facts.best.cost, facts.view.sweep.objectives.score.rule)
    total = sum(score.score for _, score in rows)
    kept = {layer.name for layer, _ in sorted(rows, key=lambda row: -row[1].score)[:_MOST]}
    shown = [(layer, score) for layer, score in rows if layer.name in kept][::-1]
    names = [layer.name for layer, _ in shown]
    layout = {
        "barmode": "stack",
        "xaxis": {"title": {"text": "% of the score"}, "domain": [0, 0.62]},
        "xaxis2": {"title": {"text": "% zeros; bits"}, "domain": [0.68, 1], "range": [0, 100]},
        "yaxis": {
            "automargin": True,
            "type": "category",
            "tickfont": {"size": 11},
            "tickvals": names,
            "ticktext": [short(name, 26) for name in names],
        },
    }
    traces = [*_shares(shown, total), _zeros([layer for layer, _ in shown])]
    note, height = _sits(rows, total), 160 + 21 * len(shown)
    return Figure("cost", "Where its cost sits", note, traces, layout, height, wide=True)


def _shares(rows: list[tuple[Layer, Score]], total: float) -> Iterator[Trace]:
    """Yields the bars of both parts of the score."""
    for name, part, color, pattern in (
        ("stored", "parameters", "@front", ""),
        ("computed", "operations", "@win", "/"),
    ):
        yield {
            "type": "bar",
            "orientation": "h",
            "name": name,
            "y": [layer.name for layer, _ in rows],
            "x": [round(100 * getattr(score, part) / total, 3) for _, score in rows],
            "marker": fill(color, pattern),
            "hovertemplate": f"%{{y}}: %{{x:.1f}} % of the score, {name}<extra></extra>",
        }


def _zeros(layers: list[Layer]) -> Trace:
    """Returns the bars of the zeros among what each layer stores, with its bits written on them."""
    zeros = [100 * (1 - la.nonzeros / la.elements) if la.elements else 0 for la in layers]
    return {
        "type": "bar",
        "orientation": "h",
        "name": "zeros",
        "y": [layer.name for layer in layers],
        "x": [round(share, 1) for share in zeros],
        "xaxis": "x2",
        "marker": {"color": "@grey", "opacity": 0.45},
        "text": [_widths(layer) for layer in layers],
        "textposition": "inside",
        "insidetextanchor": "start",
        "textangle": 0,
        "constraintext": "none",
        "cliponaxis": False,
        "textfont": {"color": "@ink", "size": 11},
        "hovertemplate": "%{y}: %{x:.0f} % zeros, %{text}<extra></extra>",
    }


def _widths(layer: Layer) -> str:
    return f"{layer.weight_bits}/{layer.activation_bits} bits" if layer.macs else ""


def _sits(rows: list[tuple[Layer, Score]], total: float) -> str:
    computed = sum(score.operations for _, score in rows) / total
    top, most = max(rows, key=lambda row: row[1].score)
    text = (
        f"{percent(computed, 0)} of the score is computation, {percent(1 - computed, 0)} is what "
    )
    text += f"is stored. {top.name} alone makes {percent(most.score / total, 0)}. "
    weights = [layer for layer, _ in rows if layer.macs]
    zeros = 1 - sum(la.nonzeros for la in weights) / sum(la.elements for la in weights)
    text += f"{percent(zeros, 0)} of the weights are zero. Bits are those of weights and input"
    if len(rows) > _MOST:
        text += f"; the {len(rows) - _MOST} cheapest layers are left out"
    return text + "."
