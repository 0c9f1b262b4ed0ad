"""The picture on a model card: what each layer adds to the score."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from micronet_search.scoring.cost import Cost
from micronet_search.scoring.rules import RULES, Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

DARK, LIGHT = "#1b4f72", "#a9cce3"  # apart in grey too
_MOST_LETTERS = 48
_ROW, _AROUND = 0.21, 1.5  # inches
_SHOWN = 0.02  # the share of the longest bar from which it has its percentage beside it


def by_layer(cost: Cost, rule: str) -> list[tuple[str, Score]]:
    """Returns what each layer that costs something adds to the score, in their order."""
    rows = [(layer.name, RULES[rule](replace(cost, layers=(layer,)))) for layer in cost.layers]
    return [(name, found) for name, found in rows if found.score > 0]


def draw(cost: Cost, rule: str) -> bytes:
    """Returns a PNG file with a bar for each layer that costs something, from top to bottom.

    A bar has the part for what is stored, then that for what is computed, in percent of the score.
    """
    written = io.BytesIO()
    # without the version of Matplotlib, so that equal networks have equal pictures
    cost_figure(by_layer(cost, rule), rule).savefig(written, metadata={"Software": None})
    return written.getvalue()


def cost_figure(rows: Sequence[tuple[str, Score]], rule: str) -> Figure:
    """Draws the bars, on white, so that a dark page hides nothing."""
    from matplotlib.figure import Figure

    size = (8, _AROUND + _ROW * len(rows))
    figure = Figure(figsize=size, dpi=110, layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    total = sum(found.score for _, found in rows)
    stored = [100 * found.parameters / total for _, found in rows]
    computed = [100 * found.operations / total for _, found in rows]
    axes.set_title(f"{rule} score {total:.3g} by layer", fontsize=11)
    _draw_bars(axes, stored, f"parameters, {sum(stored):.1f} %", DARK)
    _draw_bars(axes, computed, f"operations, {sum(computed):.1f} %", LIGHT, stored)
    _draw_labels(axes, [name for name, _ in rows], stored, computed)
    return figure


def _draw_bars(
    axes: Axes, widths: Sequence[float], label: str, color: str, left: Sequence[float] = ()
) -> None:
    bars = axes.barh(range(len(widths)), widths, 0.72, list(left) or 0, label=label, color=color)
    for bar in bars:
        bar.set(edgecolor="black", linewidth=0.5)


def _draw_labels(
    axes: Axes, names: Sequence[str], stored: Sequence[float], computed: Sequence[float]
) -> None:
    """Names the layers at the left, and writes the share of each at the end of its bar."""
    sums = [sum(parts) for parts in zip(stored, computed, strict=True)]
    for place, share in enumerate(sums):
        if share >= _SHOWN * max(sums):
            where = (share, place), (4, 0), "data", "offset points"
            axes.annotate(f"{share:.1f} %", *where, va="center", fontsize=7)
    shown = [n if len(n) <= _MOST_LETTERS else f"…{n[1 - _MOST_LETTERS :]}" for n in names]
    axes.set_yticks(range(len(names)), shown, fontsize=7.5)
    axes.set_ylim(len(names) - 0.4, -0.6)  # the first layer on top
    axes.set_xlim(0, 1.12 * max(sums))
    axes.set_xlabel("share of the score, %", fontsize=9)
    axes.tick_params("x", labelsize=8)
    axes.grid(True, axis="x", linewidth=0.4, alpha=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    # above the axes, where no bar can be
    axes.figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=9)
