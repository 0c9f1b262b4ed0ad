"""The commands that run studies and show them."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from micronet_search.cli.common import (
    DEFAULT_ROOT,
    INTERRUPTED,
    Address,
    AtLeast,
    Device,
    Format,
    Root,
    Study,
    SweepFile,
    app,
    console,
    elsewhere,
    interruptible,
    print_front,
    read,
    root_folder,
)

SchemaFormat = StrEnum("SchemaFormat", ["JSON", "MARKDOWN"])


@app.command()
def check(
    sweep: SweepFile,
    time: Annotated[
        bool, typer.Option("--time", help="Train one epoch, and estimate the study's time.")
    ] = False,
) -> None:
    """Says whether a sweep is valid, how large its space is, and what would be screened out."""
    from micronet_search.config.files import load_sweep
    from micronet_search.report import check as checking

    checking.refuse_candidate(sweep)
    loaded = load_sweep(sweep)
    drawn = checking.sample(loaded)
    print(f"{sweep} is valid", *checking.describe(loaded, drawn), sep="\n")
    if time:
        print(*checking.estimate(loaded, drawn), sep="\n")


@app.command(
    epilog="Ctrl-C pauses the study after the epoch; a second one leaves at once. Either way the "
    "same command continues from there, and the exit code is 130. The exit code is 0 once the "
    "total of trials or hours is reached, or the space is exhausted."
)
def run(
    sweep: SweepFile,
    trials: Annotated[int | None, typer.Option(help="Trials in all.", min=1)] = None,
    hours: Annotated[float | None, typer.Option(help="Hours in all.", min=1e-6)] = None,
    device: Device = None,
    address: Address = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Launches the study of a sweep, or resumes it where it was left."""
    from micronet_search.config.files import load_sweep
    from micronet_search.report.live import Display

    loaded = load_sweep(sweep).override(
        search={"trials": trials, "hours": hours},
        execution={"device": device, "address": address},
    )
    with interruptible(), Display(loaded.name, console()) as display:
        from micronet_search.study import opening  # takes seconds

        progress = opening.run(loaded, root_folder(root), display, new_total=trials is not None)
    ended, front = len(progress.outcomes), progress.survey.front
    print(f"{loaded.name}: {ended} of {progress.total} trials, {len(front)} on the front")
    if front:
        print_front(loaded.name, root)
        name = f"{loaded.name}{elsewhere(root)}"
        print(f"next: micronet-search confirm {name}, then micronet-search export {name} --best")
    else:
        print("no trial is feasible yet")
    if progress.paused == "hours":
        print(f"paused: the {loaded.search.hours:g} hours are used up; raise --hours to continue")
    elif progress.paused == "interrupt":
        print("paused; run the same command to continue")
        raise typer.Exit(INTERRUPTED)


@app.command(
    epilog="In a sweep beside `schema.json`, the first line `# yaml-language-server: "
    "$schema=schema.json` has editors complete and check it."
)
def schema(
    format: Annotated[SchemaFormat, typer.Option(help="What to print.")] = SchemaFormat.JSON,
) -> None:
    """Prints the JSON Schema of a sweep's file, or a page that explains each of its keys."""
    from micronet_search.config.schema import sweep_schema
    from micronet_search.report.reference import sweep_page

    if format == SchemaFormat.MARKDOWN:
        print(sweep_page(), end="")
    else:
        print(json.dumps(sweep_schema(), indent=1))


@app.command()
def sync(study: Study, root: Root = DEFAULT_ROOT) -> None:
    """Brings MLflow up to date with a study, where it did not answer or lost its database."""
    from micronet_search.study.sync import sync as deliver

    print(f"{study}: {deliver(root_folder(root), study)} trials delivered to MLflow")


@app.command(
    epilog="MLflow marks the experiment as deleted: it can be restored there, and `mlflow gc` "
    "removes it for good. Teachers are shared by studies, and stay."
)
def delete(
    study: Study,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    keep_records: Annotated[
        bool, typer.Option("--keep-records", help="Leave MLflow and Optuna's database as they are.")
    ] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Deletes a study that does not run: its folder, its draws and its experiment in MLflow."""
    folder = root_folder(root).study(study)
    if not yes:
        what = f"delete {study}, with {len(root_folder(root).started(study).ended())} trials"
        if not sys.stdin.isatty():
            raise ValueError(f"found no terminal to ask in, expected --yes to {what}")
        typer.confirm(f"{what} in {folder.path}?", abort=True)
    from micronet_search.study.removal import delete as remove  # takes seconds

    remove(root_folder(root), study, keep_records=keep_records)
    print(f"{study} is deleted")


@app.command(
    epilog="A study is left out if a file of it is damaged or of another version; a warning names "
    "the file. The exit code is 2 if no study can be shown, or not the one that is named."
)
def status(
    study: Annotated[str | None, typer.Argument(help="One study; all of them without.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Shows how far the studies are and whether they run, or the trials of one."""
    from micronet_search.report import tables
    from micronet_search.report.view import read_all

    count = len(root_folder(root).studies())
    if study is None and not count:
        raise ValueError(f"no study under {root} yet, expected one started with `run`")
    views = read_all(root_folder(root)) if study is None else [read(study, root)]
    if not views:
        raise ValueError(f"none of the {count} studies under {root} can be read")
    console().print(tables.status_table(views))
    if study is not None:
        console().print("", tables.trials_table(views[0]))


@app.command()
def front(
    study: Study,
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TABLE,
    at_least: AtLeast = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Prints the front of a study, lowest score first, with the choices that differ."""
    from micronet_search.report import tables

    if format == Format.TABLE:
        print_front(study, root, at_least)
        return
    view = read(study, root, at_least)
    if format == Format.JSON:
        print(json.dumps(view.front(), indent=2))
    else:
        print(tables.front_csv(view).rstrip())


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 5000,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Serves MLflow's pages on the studies until Ctrl-C, and prints their address."""
    from micronet_search.report.view import newest, tracking
    from micronet_search.tracking.ui import serve

    folder = root_folder(root)
    raise typer.Exit(serve(folder, tracking(folder), host, port, newest(folder)))
