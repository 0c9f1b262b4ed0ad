"""What a running study shows: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from micronet_search.study.progress import Progress


class Display:
    """An observer of a study, for the length of a `with` statement."""

    def __init__(self, name: str, console: Console) -> None:
        """Prepares the display.

        Args:
            name: Of the study.
            console: Where it goes; lines alone where that is no terminal.
        """
        self._name = name
        self._console = console
        self._started = time.monotonic()
        self._phase: str | None = None
        self._live = Live(
            _phase(name, "opening"), console=console, refresh_per_second=4, transient=True
        )

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        # soft wrapping would reach the live figures below it, and cut them
        self._console.print(
            f"[{elapsed}] {line}",
            highlight=False,
            markup=False,
            soft_wrap=not self._live.is_started,
        )


def render(name: str, progress: Progress) -> RenderableType:
    """The study's figures, and a line for each trial that runs; before the first, the phase."""
    if progress.phase is None:
        head: RenderableType = Text(name, style="bold")
    else:
        head = _phase(name, progress.phase)
        if not progress.outcomes:  # figures of what is not read yet would be zeros
            return head
    states = [outcome.state for outcome in progress.outcomes.values()]
    best = progress.survey.best_score
    counts = [
        f"trials {len(states)}/{progress.total}",
        f"running {sum(number >= 0 for number in progress.running)}",
        f"stopped {states.count('stopped')}",
        f"failed {states.count('failed')}",
        f"screened {progress.screened}",
    ]
    figures = [
        f"front {len(progress.survey.front)}",
        "best score " + ("-" if best is None else f"{best:.6f}"),
        f"hypervolume {progress.survey.hypervolume:.4g}",
    ]
    if progress.seconds_left is not None:
        figures.append(f"{duration(progress.seconds_left)} left")
    rows = Table.grid(padding=(0, 2))
    for number, running in progress.running.items():
        holder = f"trial {number}" if number >= 0 else "teacher"
        accuracy = "" if running.accuracy is None else f"accuracy {running.accuracy:.4f}"
        bar = ProgressBar(total=max(1, running.epochs), completed=running.epoch, width=24)
        epoch = f"epoch {running.epoch}/{running.epochs}" if running.epochs else "starting"
        rows.add_row(holder, bar, epoch, accuracy)
    lines = [Text("  ".join(found)) for found in (counts, figures)]
    return Group(head, *lines, rows)


def _phase(name: str, phase: str) -> Spinner:
    return Spinner("line", Text(f"{name}: {phase}"))


def duration(seconds: float) -> str:
    """Seconds as people say them: `42 s`, `3 min 05 s`, `2 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
