"""The commands; errors become one clear line and an exit code.

Heavy imports stand in the commands that need them, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import shlex
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from micronet_search.export.errors import ExportError

if TYPE_CHECKING:
    from rich.console import Console

    from micronet_search.config.search import Search
    from micronet_search.config.sweep import Execution, Sweep

Options = TypeVar("Options", "Search", "Execution")
USER_ERROR, FAILED_EXPORT, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="micronet-search",
    help="Searches for the cheapest convolutional network that still reaches a target accuracy.",
    epilog="--debug, anywhere, shows the traceback of an error.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Root = Annotated[Path, typer.Option("--root", help="Folder of all studies.")]
SweepFile = Annotated[Path, typer.Argument(help="A sweep's YAML file.")]
Study = Annotated[str, typer.Argument(help="A study's name.")]
DEFAULT_ROOT = Path("mlruns")


class Format(StrEnum):
    """How `front` prints."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class ScoreFormat(StrEnum):
    """How `score` prints."""

    TABLE = "table"
    JSON = "json"


@app.command()
def check(sweep: SweepFile) -> None:
    """Says whether a sweep is valid, how large its space is, and what would be screened out."""
    from micronet_search.config.files import load_sweep
    from micronet_search.report.check import DRAWS, sample

    loaded = load_sweep(sweep)
    found = sample(loaded)
    goal = loaded.objectives.score
    size = "a continuum" if found.size is None else f"{found.size:,} draws"
    print(f"{sweep} is valid")
    if not found.choices:
        print(f"space: one candidate, with a predicted {goal.rule} score of {found.median:.6f}")
        return
    print(f"space: {size}, from {len(found.choices)} choices: {', '.join(found.choices)}")
    print(
        f"predicted {goal.rule} score over {len(found.scores)} candidates: "
        f"{found.scores[0]:.6f} to {found.scores[-1]:.6f}, median {found.median:.6f}"
    )
    print(
        f"of {DRAWS} draws {found.screened} would be screened with a score above {goal.at_most:g}, "
        f"{found.duplicates} as duplicates and {found.impossible} as impossible"
    )


@app.command(
    epilog="Ctrl-C pauses the study after the epoch, a second one leaves at once; either way the "
    "same command goes on from there, and the exit code is 130. It is 0 at the total of trials or "
    "hours, and where the space is exhausted."
)
def run(
    sweep: SweepFile,
    trials: Annotated[int | None, typer.Option(help="Trials in all.", min=1)] = None,
    hours: Annotated[float | None, typer.Option(help="Hours in all.", min=1e-6)] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")] = None,
    address: Annotated[str | None, typer.Option(help="HOST:PORT of a Ray cluster.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Launches a sweep's study, or resumes it where it was left."""
    from micronet_search.report.live import Display

    search = {"trials": trials, "hours": hours}
    loaded = _load_sweep(sweep, search, {"device": device, "address": address})
    console = _console()
    try:
        with Display(loaded.name, console) as display:
            from micronet_search.study import opening  # takes seconds

            progress = opening.run(loaded, _root(root), display, new_total=trials is not None)
    except KeyboardInterrupt:
        print("left at once; the same command repairs the study and goes on", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    ended, found = len(progress.outcomes), progress.survey
    print(f"{loaded.name}: {ended} of {progress.total} trials, {len(found.front)} on the front")
    if found.front:
        _print_front(loaded.name, root)
        elsewhere = "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"
        print(f"next: micronet-search export {loaded.name} --best{elsewhere}")
    else:
        print("no trial is feasible yet")
    if progress.paused == "interrupt":
        print("paused; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if progress.paused == "hours":
        print(f"paused: the {loaded.search.hours:g} hours are used up, a greater --hours goes on")


@app.command()
def sync(study: Study, root: Root = DEFAULT_ROOT) -> None:
    """Brings MLflow up to date with a study, where it did not answer or lost its database."""
    from micronet_search.study.projection import sync as deliver

    print(f"{study}: {deliver(_root(root), study)} trials delivered to MLflow")


@app.command(
    epilog="A study with a damaged file, or with one of another version, is left out: a warning "
    "names the file. The exit code is 2 where no study can be shown, or not the one that is named."
)
def status(
    study: Annotated[
        str | None, typer.Argument(help="A study's name; all of them without.")
    ] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Shows how far the studies are, or the trials of one."""
    from micronet_search.report import tables
    from micronet_search.report.view import read, read_all

    count = len(_root(root).studies())
    if study is None and not count:
        raise ValueError(f"no study under {root} yet, expected one started with `run`")
    views = read_all(_root(root), _warn) if study is None else [read(_root(root), study)]
    if not views:
        raise ValueError(f"none of the {count} studies under {root} can be read")
    _console().print(tables.status_table(views))
    if study is not None:
        _console().print()
        _console().print(tables.trials_table(views[0]))


@app.command()
def front(
    study: Study,
    format: Annotated[Format, typer.Option(help="What to print.")] = Format.TABLE,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Prints the front of a study, lowest score first."""
    from micronet_search.report import tables
    from micronet_search.report.view import read

    if format == Format.TABLE:
        _print_front(study, root)
        return
    rows = read(_root(root), study).front()
    print(json.dumps(rows, indent=2) if format == Format.JSON else tables.front_csv(rows).rstrip())


@app.command()
def score(
    candidate: Annotated[Path, typer.Argument(help="A candidate's YAML file.")],
    format: Annotated[ScoreFormat, typer.Option(help="What to print.")] = ScoreFormat.TABLE,
) -> None:
    """Counts what a candidate needs, without training it, and scores it by every rule."""
    from micronet_search import build
    from micronet_search.config.files import load_candidate
    from micronet_search.report import tables

    cost = build.predict(load_candidate(candidate))
    if format == ScoreFormat.JSON:
        print(json.dumps(tables.cost_json(cost), indent=2))
    else:
        _console().print(tables.cost_table(cost))
        print("\n".join(tables.cost_lines(cost)))


@app.command()
def export(
    study: Study,
    best: Annotated[bool, typer.Option("--best", help="The front's lowest score.")] = False,
    trial: Annotated[int | None, typer.Option(help="This trial.", min=0)] = None,
    front: Annotated[bool, typer.Option("--front", help="Every trial on the front.")] = False,
    to: Annotated[Path | None, typer.Option(help="Folder; exports/STUDY/TRIAL without.")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Ships models as ONNX and safetensors, checked against each other on the test split."""
    from micronet_search.export.ship import export_trial
    from micronet_search.report.view import read

    if [best, trial is not None, front].count(True) != 1:
        raise ValueError("expected one of --best, --trial N and --front")
    view = read(_root(root), study)
    numbers = [trial] if trial is not None else [row["trial"] for row in view.front()]
    splits = _splits(view.sweep)
    for number in numbers[:1] if best else numbers:
        destination = to or Path("exports") / study / f"{number:04d}"
        if front and to is not None:
            destination = to / f"{number:04d}"
        print(export_trial(view.folder.trial(number), splits, destination))


@app.command()
def ui(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=1, max=65535)] = 5000,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Serves MLflow's pages on the studies, at the address that it prints, until Ctrl-C."""
    from micronet_search.report.view import tracking
    from micronet_search.tracking.ui import serve

    raise typer.Exit(serve(_root(root), tracking(_root(root), _warn), host, port))


def _load_sweep(path: Path, search: dict[str, Any], execution: dict[str, Any]) -> Sweep:
    """The sweep with what the command line puts in the place of its own."""
    from micronet_search.config.files import load_sweep

    sweep = load_sweep(path)
    changes = {
        "search": _replace(sweep.search, search),
        "execution": _replace(sweep.execution, execution),
    }
    return sweep.model_copy(update=changes)


def _replace(found: Options, given: dict[str, Any]) -> Options:
    """The options with what the command line gives, which is as strict as the sweep."""
    from pydantic import ValidationError

    from micronet_search.config.validation import validation_problems

    values = {name: value for name, value in given.items() if value is not None}
    try:
        return type(found).model_validate(found.model_dump() | values)
    except ValidationError as error:
        ((key, message), *_) = validation_problems(error, type(found))
        option = f"--{key[0]}: " if key else ""
        raise ValueError(f"{option}{message}") from None


def _print_front(study: str, root: Path) -> None:
    from micronet_search.report import tables
    from micronet_search.report.view import read

    _console().print(tables.front_table(read(_root(root), study)))


def _splits(sweep: Sweep) -> Any:
    from micronet_search.data.splits import load

    return load(sweep.dataset)


def _root(path: Path) -> Any:
    from micronet_search.store.paths import Root as Folder

    return Folder(path)


def _console() -> Console:
    from rich.console import Console

    # what is no terminal has no width of its own, and a table is not to be cut for it
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def main() -> None:
    """Runs the command line; every error of the user's is one line on stderr."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        app(arguments)
    try:
        app(arguments)
    except (ExportError, ValueError, OSError) as error:
        print(f"error: {_explain(error)}", file=sys.stderr)
        sys.exit(FAILED_EXPORT if isinstance(error, ExportError) else USER_ERROR)


def _warn(study: str, error: Exception) -> None:
    reason, *_ = _explain(error).splitlines()
    print(f"warning: the study {study} is left out: {reason}", file=sys.stderr)


def _explain(error: Exception) -> str:
    """The message of an error, with the file where the operating system names one."""
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror.lower()}{place}"
    return str(error)
