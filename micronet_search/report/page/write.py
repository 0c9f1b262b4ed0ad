"""Writes the report of a study: a page, or the picture of its front."""

from __future__ import annotations

import io
from pathlib import Path

from micronet_search.report.page.facts import gather
from micronet_search.report.page.page import to_page
from micronet_search.report.view import View, read
from micronet_search.store.files import write_bytes
from micronet_search.store.paths import Root
from micronet_search.study.survey import dots
from micronet_search.tracking.picture import front_figure

PICTURES = (".svg", ".pdf", ".png")
PAGES = (".html", ".htm")


def write(root: Root, name: str, file: Path, at_least: float | None = None) -> Path:
    """Writes the report into a file, whose ending says what it is, in one step.

    Raises:
        ValueError: The study is missing or damaged, or the ending is another one.
    """
    kind = file.suffix.lower()
    if kind in PAGES:
        content = to_page(gather(root, name, at_least)).encode()
    elif kind in PICTURES:
        content = picture(read(root, name, at_least), kind[1:])
    else:
        endings = ", ".join((*PAGES, *PICTURES))
        raise ValueError(f"{file}: found the ending {kind or 'none'!r}, expected one of {endings}")
    write_bytes(file, content)
    return file


def picture(view: View, kind: str) -> bytes:
    """Returns the picture of the front as a file of a kind: `svg`, `pdf` or `png`."""
    goals, written = view.sweep.objectives, io.BytesIO()
    points = dots(view.outcomes, goals)
    figure = front_figure(view.sweep.name, points, view.survey.front, goals)
    figure.savefig(written, format=kind)
    return written.getvalue()
