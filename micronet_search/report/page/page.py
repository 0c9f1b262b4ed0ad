"""The report of a study as a page of HTML that needs no other file."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from micronet_search.report.page import again, best, verdict
from micronet_search.report.page.choices import slices, worth
from micronet_search.report.page.confirmed import confirmed
from micronet_search.report.page.curves import curves
from micronet_search.report.page.facts import Facts
from micronet_search.report.page.figure import Figure
from micronet_search.report.page.front import front, table
from micronet_search.report.page.health import health
from micronet_search.report.page.parallel import parallel
from micronet_search.report.page.progress import progress
from micronet_search.report.page.spent import spent

_TEMPLATE = Path(__file__).with_suffix(".html")
_KINDS = {"act": ("!", "to act on"), "note": ("i", "worth knowing"), "well": ("✓", "well")}


def to_page(facts: Facts) -> str:
    """Returns the page. Whatever comes from files is escaped."""
    from plotly.offline import get_plotlyjs

    figures = sections(facts)
    drawn = [figure for found in figures.values() for figure in found]
    parts = {name: "\n".join(map(_figure, found)) for name, found in figures.items()}
    return Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        parts,
        title=html.escape(facts.name),
        state=html.escape(verdict.state(facts)),
        headline=html.escape(verdict.headline(facts)),
        tiles="\n".join(_tile(*tile) for tile in verdict.tiles(facts)),
        reasons=_items(verdict.reasons(facts)),
        troubles=_items(facts.troubles),
        health="\n".join(_line(line.kind, line.text) for line in health(facts)),
        no_front="" if facts.view.survey.front else "<p>No trial reaches every goal yet.</p>",
        table=_table(*table(facts)),
        commands=html.escape("\n".join(again.commands(facts))),
        environment=_table(["package", "version"], [list(row) for row in again.environment(facts)]),
        sweep=html.escape(again.sweep_text(facts)),
        candidate=html.escape(again.candidate_text(facts)),
        written=time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        figures=_script(drawn),
        plotly=get_plotlyjs(),
    )


def sections(facts: Facts) -> dict[str, list[Figure]]:
    """Returns the figures of each section of the page by its name."""
    found: dict[str, Sequence[Figure | None]] = {
        "front_figure": [front(facts)],
        "confirmed_figures": [confirmed(facts)],
        "progress_figures": [*progress(facts), spent(facts)],
        "choice_figures": [worth(facts), parallel(facts)],
        "slice_figures": slices(facts),
        "curve_figures": [curves(facts)],
        "best_figures": [best.stages(facts), best.cost(facts)],
    }
    return {name: [one for one in some if one is not None] for name, some in found.items()}


def _figure(figure: Figure) -> str:
    name, title, note = (html.escape(text) for text in (figure.name, figure.title, figure.note))
    wide = ' class="wide"' if figure.wide else ""
    return (
        f"<figure{wide}><h3>{title}</h3>"
        f'<div class="plot" data-figure="{name}" style="height: {figure.height}px" role="img" '
        f'aria-label="{title}. {note}"></div><figcaption>{note}</figcaption></figure>'
    )


def _tile(name: str, figure: str) -> str:
    return f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(figure)}</dd></div>"


def _line(kind: str, text: str) -> str:
    mark, title = _KINDS[kind]
    shown = f'<span class="mark" role="img" aria-label="{title}" title="{title}">{mark}</span>'
    return f'<li class="{kind}">{shown}<span>{html.escape(text)}</span></li>'


def _items(texts: Iterable[str]) -> str:
    return "\n".join(f"<li>{html.escape(text)}</li>" for text in texts)


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in heads)
    body = []
    for first, *cells in rows:
        others = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
        body.append(f'<tr><th scope="row">{html.escape(first)}</th>{others}</tr>')
    return (
        '<div class="scroll" tabindex="0"><table><thead><tr>'
        f"{head}</tr></thead><tbody>\n{chr(10).join(body)}\n</tbody></table></div>"
    )


def _script(figures: Iterable[Figure]) -> str:
    """Returns the figures as JSON, in which nothing ends a script."""
    tree = {one.name: {"data": one.traces, "layout": one.layout} for one in figures}
    text = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
