"""A figure of a report: what Plotly draws, and the sentence below it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Trace = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """One figure.

    A colour is `@` and its name in the page's palette, which has one for light, dark and print.

    Attributes:
        name: Its id on the page.
        note: Says what it shows for this study, as plain text.
        height: In pixels.
        wide: Whether it has the width of the page for itself.
    """

    name: str
    title: str
    note: str
    traces: Sequence[Trace]
    layout: dict[str, Any] = field(default_factory=dict)
    height: int = 380
    wide: bool = False


MARKS: dict[str, Trace] = {
    "front": {"symbol": "diamond", "size": 11, "color": "@front"},
    "feasible": {"symbol": "circle", "size": 8, "color": "@feasible"},
    "infeasible": {"symbol": "circle-open", "size": 7, "color": "@grey"},
    "stopped": {"symbol": "triangle-down-open", "size": 7, "color": "@grey"},
    "screened": {"symbol": "line-ns-open", "size": 9, "color": "@grey"},
    "winner": {
        "symbol": "star",
        "size": 19,
        "color": "@win",
        "line": {"width": 1, "color": "@ink"},
    },
    "known": {"symbol": "square-x-open", "size": 11, "color": "@known"},
}
"""How each kind of trial is marked, by shape and not by colour alone."""


def dots(kind: str, x: Sequence[Any], y: Sequence[Any], name: str, **more: Any) -> Trace:
    """Returns a trace of marks of one kind."""
    trace = {"type": "scatter", "mode": "markers", "name": name, "x": x, "y": y}
    return trace | {"marker": MARKS[kind]} | more


def fill(color: str, pattern: str) -> dict[str, Any]:
    """Returns how a bar is filled: its pattern tells it apart without its colour."""
    hatched = {"shape": pattern, "fgcolor": "@paper", "fillmode": "overlay", "solidity": 0.25}
    return {"color": color, "pattern": hatched if pattern else {}}


def log_axis(low: float, high: float, title: str) -> dict[str, Any]:
    """Returns a logarithmic axis, with ticks at 1, 2 and 5 of each decade."""
    from math import floor, log10

    decades = range(floor(log10(low)) - 2, floor(log10(high)) + 3)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    margin = max((4 * low / high) ** 0.5, 1.15)  # at least a factor of four, for enough ticks
    return {
        "type": "log",
        "title": {"text": title},
        "tickvals": [float(f"{tick:.0e}") for tick in ticks],
        "ticktext": [f"{tick:g}" for tick in ticks],
        "range": [log10(low / margin), log10(high * margin)],
    }


def line(axis: str, at: float, dash: str = "dash", color: str = "@goal") -> dict[str, Any]:
    """Returns a line across the whole panel at a place on its x or y axis."""
    other = "y" if axis.startswith("x") else "x"
    ends = {f"{axis[0]}0": at, f"{axis[0]}1": at, f"{other}0": 0, f"{other}1": 1}
    refs = {f"{axis[0]}ref": axis, f"{other}ref": f"{other} domain"}
    drawn = {"color": color, "width": 1.4, "dash": dash}
    return {"type": "line", "layer": "below", "line": drawn} | ends | refs


def label(text: str, x: Any, y: Any, **more: Any) -> dict[str, Any]:
    """Returns a text in a figure without an arrow."""
    return {"text": text, "x": x, "y": y, "showarrow": False} | more
