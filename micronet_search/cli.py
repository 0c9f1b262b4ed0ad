"""The commands. A user's error becomes one clear line and an exit code.

Heavy imports stand in the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micronet_search.export import ExportError
from micronet_search.report import explain

if TYPE_CHECKING:
    from rich.console import Console

    from micronet_search.report.view import View
    from micronet_search.store import paths

USER_ERROR, FAILED_EXPORT, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="micronet-search",
    help="Searches for the cheapest convolutional network that still reaches a target accuracy.",
    epilog="Every command takes --debug, which shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Root = Annotated[Path, typer.Option("--root", help="The folder of all studies.")]
SweepFile = Annotated[Path, typer.Argument(help="The YAML file of a sweep.")]
Study = Annotated[str, typer.Argument(help="The name of a study.")]
DEFAULT_ROOT = Path("mlruns")
Format = StrEnum("Format", ["TABLE", "CSV", "JSON"])
ScoreFormat = StrEnum("ScoreFormat", ["TABLE", "JSON"])


@app.command()
def check(sweep: SweepFile) -> None:
    """Says whether a sweep is valid, how large its space is, and what would be screened out."""
    from micronet_search.config.files import load_sweep
    from micronet_search.report.check import describe

    print(f"{sweep} is valid", *describe(load_sweep(sweep)), sep="\n")


@app.command(
    epilog="Ctrl-C pauses the study after the epoch; a second one leaves at once. Either way the "
    "same command continues from there, and the exit code is 130. The exit code is 0 once the "
    "total of trials or hours is reached, or the space is exhausted."
)
def run(
    sweep: SweepFile,
    trials: Annotated[int | None, typer.Option(help="Trials in all.", min=1)] = None,
    hours: Annotated[float | None, typer.Option(help="Hours in all.", min=1e-6)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of a Ray cluster.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Launches the study of a sweep, or resumes it where it was left."""
    from micronet_search.config.files import load_sweep
    from micronet_search.report.live import Display

    loaded = load_sweep(sweep).override(
        search={"trials": trials, "hours": hours},
        execution={"device": device, "address": address},
    )
    try:
        with Display(loaded.name, _console()) as display:
            from micronet_search.study import opening  # takes seconds

            progress = opening.run(loaded, _folder(root), display, new_total=trials is not None)
    except (KeyboardInterrupt, OSError) as error:
        if not _is_interrupt(error):
            raise
        hint = "left at once; run the same command to repair the study and continue"
        print(hint, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    ended, front = len(progress.outcomes), progress.survey.front
    print(f"{loaded.name}: {ended} of {progress.total} trials, {len(front)} on the front")
    if front:
        _print_front(loaded.name, root)
        elsewhere = "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"
        print(f"next: micronet-search export {loaded.name} --best{elsewhere}")
    else:
        print("no trial is feasible yet")
    if progress.paused == "hours":
        print(f"paused: the {loaded.search.hours:g} hours are used up; raise --hours to continue")
    elif progress.paused == "interrupt":
        print("paused; run the same command to continue")
        raise typer.Exit(INTERRUPTED)


@app.command()
def sync(study: Study, root: Root = DEFAULT_ROOT) -> None:
    """Brings MLflow up to date with a study, where it did not answer or lost its database."""
    from micronet_search.study.projection import sync as deliver

    print(f"{study}: {deliver(_folder(root), study)} trials delivered to MLflow")


@app.command(
    epilog="A study is left out if a file of it is damaged or of another version; a warning names "
    "the file. The exit code is 2 if no study can be shown, or not the one that is named."
)
def status(
    study: Annotated[str | None, typer.Argument(help="One study; all of them without.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Shows how far the studies are, or the trials of one."""
    from micronet_search.report import tables
    from micronet_search.report.view import read_all

    count = len(_folder(root).studies())
    if study is None and not count:
        raise ValueError(f"no study under {root} yet, expected one started with `run`")
    views = read_all(_folder(root)) if study is None else [_read(study, root)]
    if not views:
        raise ValueError(f"none of the {count} studies under {root} can be read")
    _console().print(tables.status_table(views))
    if study is not None:
        _console().print("", tables.trials_table(views[0]))


@app.command()
def front(
    study: Study,
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TABLE,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Prints the front of a study, lowest score first."""
    from micronet_search.report import tables

    if format == Format.TABLE:
        _print_front(study, root)
        return
    rows = _read(study, root).front()
    print(json.dumps(rows, indent=2) if format == Format.JSON else tables.front_csv(rows).rstrip())


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="CANDIDATE.yaml or MODEL.onnx.")],
    format: Annotated[ScoreFormat, typer.Option(help="What to print.")] = ScoreFormat.TABLE,
) -> None:
    """Counts the cost of a candidate or a model without running it, and scores it by every rule."""
    from micronet_search.report import tables
    from micronet_search.report.score import score as read

    scored = read(file)
    if format == ScoreFormat.JSON:
        print(json.dumps(scored.to_json(), indent=2))
    else:
        _console().print(tables.cost_table(scored.cost))
        print(*scored.lines(), sep="\n")


@app.command()
def export(
    study: Study,
    best: Annotated[bool, typer.Option("--best", help="The trial of the lowest score.")] = False,
    trial: Annotated[int | None, typer.Option(help="The trial of this number.", min=0)] = None,
    front: Annotated[bool, typer.Option("--front", help="Every trial on the front.")] = False,
    to: Annotated[Path | None, typer.Option(help="Default: exports/STUDY/TRIAL.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Ships models as ONNX and safetensors, checked against each other on the test split."""
    from micronet_search.data.splits import load
    from micronet_search.export.ship import export_trial

    if [best, trial is not None, front].count(True) != 1:
        raise ValueError("expected one of --best, --trial N and --front")
    view = _read(study, root)
    numbers = [trial] if trial is not None else [row["trial"] for row in view.front()]
    splits = load(view.sweep.dataset)
    folder = to or Path("exports") / study
    for number in numbers[:1] if best else numbers:
        destination = folder / f"{number:04d}" if front or to is None else folder
        print(export_trial(view.folder.trial(number), splits, destination))


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 5000,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Serves MLflow's pages on the studies until Ctrl-C, and prints their address."""
    from micronet_search.report.view import tracking
    from micronet_search.tracking.ui import serve

    raise typer.Exit(serve(_folder(root), tracking(_folder(root)), host, port))


def _is_interrupt(error: BaseException) -> bool:
    """Returns whether Ctrl-C came, or led to an error where it came in the middle of a cleanup."""
    cause = error.__context__
    return isinstance(error, KeyboardInterrupt) or (cause is not None and _is_interrupt(cause))


def _folder(root: Path) -> paths.Root:
    from micronet_search.store import paths

    return paths.Root(root)


def _read(study: str, root: Path) -> View:
    from micronet_search.report.view import read

    return read(_folder(root), study)


def _print_front(study: str, root: Path) -> None:
    from micronet_search.report.tables import front_table

    _console().print(front_table(_read(study, root)))


def _console() -> Console:
    from rich.console import Console

    # A file or a pipe has no width of its own, so its tables get room enough.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def main() -> None:
    """Runs the command line. An error of the user's becomes a line on stderr, without `--debug`."""
    # OpenMP reads this when PyTorch is imported. Where cores are busy, threads that wait for one
    # another and spin for longer than this take many times as long as a single thread.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(arguments)
    except (ExportError, ValueError, OSError) as error:
        if "--debug" in sys.argv:
            raise
        print(f"error: {explain(error)}", file=sys.stderr)
        sys.exit(FAILED_EXPORT if isinstance(error, ExportError) else USER_ERROR)
