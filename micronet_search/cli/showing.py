"""The command that shows a study as a page or a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from micronet_search.cli.common import DEFAULT_ROOT, AtLeast, Root, Study, app, root_folder


@app.command(
    epilog="The study may be running: nothing is written but FILE. A FILE that ends in .svg, .pdf "
    "or .png is the picture of the front alone."
)
def report(
    study: Study,
    to: Annotated[Path | None, typer.Option(help="Default: STUDY.html, in this folder.")] = None,
    at_least: AtLeast = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Writes a page on a study that opens offline: which network won, and why."""
    from micronet_search.report.page.write import write

    print(write(root_folder(root), study, to or Path(f"{study}.html"), at_least))
