"""What a running study shows: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from micronet_search.study.progress import Progress


class Display:
    """Shows the progress of a study while a `with` statement lasts."""

    def __init__(self, name: str, console: Console) -> None:
        """Prepares to show the study of this name; on no terminal, only lines are printed."""
        self._name = name
        self._console = console
        self._started = time.monotonic()
        self._phase: str | None = None
        opening = _phase(name, "opening")
        self._live = Live(opening, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, progress: Progress, line: str | None) -> None:
        """Shows the progress, and prints the line above it."""
        is_new = progress.phase not in (None, self._phase)
        self._phase = progress.phase
        if self._live.is_started:
            self._live.update(render(self._name, progress), refresh=is_new or line is not None)
        elif is_new:
            self._print(str(progress.phase))
        if line is not None:
            self._print(line)

    def _print(self, line: str) -> None:
        elapsed = duration(time.monotonic() - self._started)
        # A soft-wrapped line would overwrite the live figures below it.
        soft_wrap = not self._live.is_started
        self._console.print(
            f"[{elapsed}] {line}", highlight=False, markup=False, soft_wrap=soft_wrap
        )


def render(name: str, progress: Progress) -> RenderableType:
    """Returns the figures of a study, and a line for each running job.

    Before the first trial starts, the phase stands beside the name of the study.
    """
    if progress.phase is None:
        head: RenderableType = Text(name, style="bold")
    else:
        head = _phase(name, progress.phase)
        if not progress.outcomes:  # no trial has been read yet, so all figures would be zeros
            return head
    return Group(head, *_figures(progress), _jobs(progress))


def _figures(progress: Progress) -> list[Text]:
    states = [outcome.state for outcome in progress.outcomes.values()]
    best, left = progress.survey.best_score, progress.seconds_left
    trials = [
        f"trials {len(states)}/{progress.total}",
        f"running {sum(number >= 0 for number in progress.running)}",
        f"stopped {states.count('stopped')}",
        f"failed {states.count('failed')}",
        f"screened {progress.screened}",
    ]
    found = [
        f"front {len(progress.survey.front)}",
        "best score " + ("-" if best is None else f"{best:.6f}"),
        f"hypervolume {progress.survey.hypervolume:.4g}",
        "" if left is None else f"{duration(left)} left",
    ]
    return [Text("  ".join(trials)), Text("  ".join(found).rstrip())]


def _jobs(progress: Progress) -> Table:
    table = Table.grid(padding=(0, 2))
    for number, running in progress.running.items():
        holder = f"trial {number}" if number >= 0 else "teacher"
        bar = ProgressBar(total=max(1, running.epochs), completed=running.epoch, width=24)
        epoch = f"epoch {running.epoch}/{running.epochs}" if running.epochs else "starting"
        accuracy = "" if running.accuracy is None else f"accuracy {running.accuracy:.4f}"
        table.add_row(holder, bar, epoch, accuracy)
    return table


def _phase(name: str, phase: str) -> Spinner:
    return Spinner("line", Text(f"{name}: {phase}"))


def duration(seconds: float) -> str:
    """Returns a time as people write it: `42 s`, `3 min 05 s` or `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
