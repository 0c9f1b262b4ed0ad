"""The commands that show a study as a page, one of its trials, or several studies."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from micronet_search.cli.common import (
    DEFAULT_ROOT,
    AtLeast,
    Root,
    Study,
    app,
    console,
    read,
    root_folder,
)


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


@app.command()
def show(
    study: Study,
    trial: Annotated[int, typer.Argument(help="The number of a trial.", min=0)],
    root: Root = DEFAULT_ROOT,
) -> None:
    """Shows everything of one trial: its choices, its stages, its cost by layer and its files."""
    from micronet_search.report.show import show as describe

    console().print(describe(read(study, root), trial))


@app.command(
    epilog="It ends with the driver, or by Ctrl-C, which leaves the driver alone. A trial stands "
    "where its last checkpoint is."
)
def watch(study: Study, root: Root = DEFAULT_ROOT) -> None:
    """Follows a study that runs in another terminal, as `run` shows it there."""
    from micronet_search.report import tables
    from micronet_search.report import watch as watching
    from micronet_search.report.live import Display

    with suppress(KeyboardInterrupt), Display(study, console()) as display:
        watching.watch(root_folder(root), study, display)
    console().print(tables.status_table([read(study, root)]))


@app.command(
    epilog="The studies need the same score rule and the same validation images. Where their goals "
    "differ, all are judged by the strictest of each kind; nothing is written but FILE."
)
def compare(
    studies: Annotated[list[str], typer.Argument(help="The names of two or more studies.")],
    to: Annotated[Path | None, typer.Option(help="A picture: .svg, .pdf or .png.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Compares the fronts, hypervolumes and best scores of studies."""
    from micronet_search.report import compare as comparing

    found = comparing.compare([read(name, root) for name in studies])
    if to is not None:
        comparing.write_picture(found, to)
    console().print(found.judged_by, comparing.studies_table(found), sep="\n")
    console().print("", comparing.fronts_table(found), sep="\n")
    if to is not None:
        print(to)
