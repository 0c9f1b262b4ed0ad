"""What the commands share: the application, its options, and how studies are found."""

from __future__ import annotations

import shlex
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from micronet_search import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from micronet_search.report.view import View
    from micronet_search.store import paths

USER_ERROR, FAILED_EXPORT, INTERRUPTED = 2, 1, 130

app = typer.Typer(
    name="micronet-search",
    epilog="Every command takes --debug, which shows the traceback of an error.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"micronet-search {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Searches for the cheapest convolutional network that still reaches a target accuracy."""


Root = Annotated[Path, typer.Option("--root", help="The folder of all studies.")]
SweepFile = Annotated[Path, typer.Argument(help="The YAML file of a sweep.")]
Study = Annotated[str, typer.Argument(help="The name of a study.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Address = Annotated[str | None, typer.Option(help="HOST:PORT of a Ray cluster.")]
AtLeast = Annotated[
    float | None,
    typer.Option(help="A goal for the accuracy in place of the study's.", min=1e-6, max=1),
]
DEFAULT_ROOT = Path("mlruns")
Format = StrEnum("Format", ["TABLE", "CSV", "JSON"])


def root_folder(root: Path) -> paths.Root:
    """Returns the folder of all studies."""
    from micronet_search.store import paths

    return paths.Root(root)


def read(study: str, root: Path, at_least: float | None = None) -> View:
    """Reads a study from its files, with another goal for the accuracy if one is given."""
    from micronet_search.report import view

    return view.read(root_folder(root), study, at_least)


def print_front(study: str, root: Path, at_least: float | None = None) -> None:
    """Prints the front of a study for people."""
    from micronet_search.report.tables import front_table

    console().print(front_table(read(study, root, at_least)))


def console() -> Console:
    """Returns where tables are printed."""
    from rich.console import Console

    # A file or a pipe has no width of its own, so its tables get room enough.
    return Console(highlight=False, width=None if sys.stdout.isatty() else 160)


def elsewhere(root: Path) -> str:
    """Returns the option that names a root, to be written behind a command."""
    return "" if root == DEFAULT_ROOT else f" --root {shlex.quote(str(root))}"


@contextmanager
def interruptible() -> Iterator[None]:
    """Has a second Ctrl-C leave with a hint and the exit code of an interrupt.

    One that comes in a callback of the garbage collector is lost to Python, which prints a
    traceback: it is sent again.
    """
    before = sys.unraisablehook

    def send_again(found: sys.UnraisableHookArgs) -> None:
        if issubclass(found.exc_type, KeyboardInterrupt):
            main = threading.main_thread().ident
            threading.Timer(0.01, signal.pthread_kill, (main, signal.SIGINT)).start()
        else:
            before(found)

    sys.unraisablehook = send_again
    try:
        yield
    except (KeyboardInterrupt, OSError) as error:
        if not is_interrupt(error):
            raise
        hint = "left at once; run the same command to repair the study and continue"
        print(hint, file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        sys.unraisablehook = before


def is_interrupt(error: BaseException) -> bool:
    """Returns whether Ctrl-C came, or led to an error where it came in the middle of a cleanup."""
    cause = error.__context__
    return isinstance(error, KeyboardInterrupt) or (cause is not None and is_interrupt(cause))
