"""How a leaderboard is shown: as a table for people, as CSV for programs, and as a page."""

import html
from pathlib import Path
from string import Template
from typing import Any

from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from micronet_search.report.leaderboard import Entry, Leaderboard
from micronet_search.store.files import to_csv

COLUMNS = (
    *("rank", "submission", "feasible", "accuracy", "95 % interval", "score"),
    *("parameter part", "operation part", "parameters", "nonzeros", "MACs", "bytes"),
)
_LEAST = 6  # the columns that are shown in any case
_TEMPLATE = Path(__file__).with_suffix(".html")
_FORMULAS = ("=", "+", "-", "@")


def to_table(board: Leaderboard, console: Console) -> Table:
    """Returns a leaderboard for people, with as many columns as a console has room for."""
    unbounded = console.options.update(width=10_000)
    count = len(COLUMNS)
    while count > _LEAST:
        table = _columns(board, count)
        if console.measure(table, options=unbounded).maximum <= console.width:
            break
        count -= 1
    table = _columns(board, count)
    table.title, table.title_justify = board.caption, "left"
    if left_out := ", ".join(COLUMNS[count:]):
        table.caption = f"no room for {left_out}: --format csv has all columns"
        table.caption_justify = "left"
    return table


def _columns(board: Leaderboard, count: int) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in COLUMNS[:count]:
        is_name = column == "submission"
        justify: JustifyMethod = "left" if is_name or column == "feasible" else "right"
        width = 20 if is_name else None  # a longer name goes on in the next line
        table.add_column(
            column, justify=justify, no_wrap=not is_name, overflow="fold", max_width=width
        )
    for entry in board.entries:
        # as they are: a name may look like markup
        table.add_row(*map(Text, _cells(entry)[:count]))
    return table


def _cells(entry: Entry) -> list[str]:
    """Returns the figures of a submission for people, in the order of `COLUMNS`."""
    name = [entry.name, entry.feasible]
    if entry.measured is None or entry.interval is None:
        return ["-", *name, *["-"] * (len(COLUMNS) - 3)]
    found, (low, high) = entry.measured, entry.interval
    parts = (found.score, found.score_parameters, found.score_operations)
    counts = (found.parameters, found.nonzeros, found.macs, found.size)
    cells = [str(entry.rank), *name, f"{found.accuracy:.4f}", f"{low:.4f} to {high:.4f}"]
    return [*cells, *(f"{part:.6f}" for part in parts), *(f"{count:,}" for count in counts)]


def to_rows(board: Leaderboard) -> str:
    """Returns a leaderboard as CSV, with every digit; a cell is empty where there is no figure."""
    return to_csv([_row(entry) for entry in board.entries])


def _row(entry: Entry) -> dict[str, Any]:
    found, (low, high) = entry.measured, entry.interval or (None, None)
    names = ("score", "score_parameters", "score_operations", "parameters", "nonzeros", "macs")
    row = {
        "rank": entry.rank,
        "submission": _text(entry.name),
        "feasible": entry.feasible,
        "accuracy": found and found.accuracy,
        **{"accuracy_low": low, "accuracy_high": high},
        **{name: found and getattr(found, name) for name in names},
        "bytes": found and found.size,
        "note": _text("; ".join(filter(None, [entry.reason, *(found.notes if found else [])]))),
    }
    return {name: "" if value is None else value for name, value in row.items()}


def _text(text: str) -> str:
    """Returns a text with a quote before what a spreadsheet would compute."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def to_page(board: Leaderboard) -> str:
    """Returns a leaderboard as a page of HTML that needs no other file.

    It is in ASCII, so that it reads the same in any encoding.
    """
    page = Template(_TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=html.escape(f"Leaderboard, {board.dataset}"),
        caption=html.escape(board.caption),
        head="".join(f'<th scope="col">{column}</th>' for column in (*COLUMNS, "note")),
        rows="\n".join(map(_html_row, board.entries)),
    )
    return page.encode("ascii", "xmlcharrefreplace").decode()


def _html_row(entry: Entry) -> str:
    rank, name, *cells = map(html.escape, _cells(entry))
    figures = "".join(f"<td>{cell}</td>" for cell in cells)
    note = html.escape(entry.reason)
    if entry.measured and entry.measured.notes:
        notes = "".join(f"<li>{html.escape(text)}</li>" for text in entry.measured.notes)
        note += f"<details><summary>how it was counted</summary><ul>{notes}</ul></details>"
    kind = "yes" if entry.feasible == "yes" else "no"
    start = f'<tr class="{kind}"><td>{rank}</td><th scope="row">{name}</th>'
    return f"{start}{figures}<td>{note}</td></tr>"
