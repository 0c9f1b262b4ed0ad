"""What the commands print: tables for people, JSON and CSV for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from micronet_search.report.view import View
from micronet_search.score.cost import Cost
from micronet_search.score.rules import scores
from micronet_search.store.files import to_csv


def _table(*columns: str, title: str | None = None) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    return table


def front_table(view: View) -> Table:
    """The front of a study for people."""
    rule = view.sweep.objectives.score.rule
    columns = ["trial", "accuracy", f"score ({rule})", "parameters", "nonzeros", "MACs"]
    table = _table(*columns, title=f"front of {view.sweep.name}")
    for row in view.front():
        table.add_row(
            str(row["trial"]),
            f"{row['accuracy']:.4f}",
            f"{row['score']:.6f}",
            f"{row['parameters']:,}",
            f"{row['nonzeros']:,}",
            f"{row['macs']:,}",
        )
    return table


def front_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The front for programs that read tables; mappings become compact JSON."""
    return to_csv([{name: _cell(value) for name, value in row.items()} for row in rows])


def _cell(value: Any) -> Any:
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else value


def status_table(views: Sequence[View]) -> Table:
    """A line per study."""
    columns = ["study", "trials", "complete", "stopped", "failed", "unfinished"]
    table = _table(*columns, "front", "best score", "hypervolume")
    for view in views:
        best = view.survey.best_score
        table.add_row(
            view.sweep.name,
            f"{len(view.outcomes)}/{view.sweep.search.trials}",
            *(str(view.count(state)) for state in ("complete", "stopped", "failed")),
            str(len(view.unfinished)),
            str(len(view.survey.front)),
            "-" if best is None else f"{best:.6f}",
            f"{view.survey.hypervolume:.4g}",
        )
    return table


def trials_table(view: View) -> Table:
    """A line per trial of a study."""
    rule = view.sweep.objectives.score.rule
    table = _table("trial", "state", "accuracy", f"score ({rule})", "epochs", "seconds", "front")
    for number, outcome in view.outcomes.items():
        known = outcome.accuracy is not None
        table.add_row(
            str(number),
            outcome.state,
            f"{outcome.accuracy:.4f}" if known else "-",
            f"{view.score(number):.6f}" if known else "-",
            str(len(outcome.curve)),
            f"{sum(outcome.seconds.values()):.0f}",
            "*" if number in view.survey.front else "",
        )
    for number in view.unfinished:
        table.add_row(str(number), "unfinished", "-", "-", "-", "-", "")
    return table


def cost_table(cost: Cost) -> Table:
    """The layer table of a network: the rows that store something."""
    table = _table("layer", "kind", "weights", "nonzeros", "bits", "input bits", "MACs")
    for layer in cost.layers:
        if layer.elements:
            table.add_row(
                layer.name,
                layer.kind,
                f"{layer.elements:,}",
                f"{layer.nonzeros:,}",
                str(layer.weight_bits),
                str(layer.activation_bits),
                f"{layer.macs:,}",
            )
    return table


def cost_lines(cost: Cost) -> list[str]:
    """The totals, and the score that every rule makes of them."""
    lines = [
        f"{cost.parameters:,} parameters, {cost.nonzeros:,} nonzeros stored, {cost.macs:,} MACs, "
        f"{-(-cost.storage_bits // 8):,} bytes"
    ]
    for name, score in scores(cost).items():
        parts = f"parameters {score.parameters:.6f} + operations {score.operations:.6f}"
        lines.append(f"{name}: score {score.score:.6f} = {parts}")
    return lines


def cost_json(cost: Cost) -> dict[str, Any]:
    """The same as plain values."""
    return {
        **cost.totals(),
        "scores": {name: score.to_json() for name, score in scores(cost).items()},
        "layers": [layer.to_json() for layer in cost.layers],
    }
