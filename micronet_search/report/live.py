"""What a running study shows: a live display in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from micronet_search.config.sweep import Objectives
from micronet_search.study.progress import Progress, Running


class Display:
    """Shows the progress of a study while a `with` statement lasts."""

    def __init__(self, name: str, console: Console) -> None:
        """Prepares the display of a study; unless the console is a terminal, it prints lines."""
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
        text = f"[{duration(time.monotonic() - self._started)}] {line}"
        # A soft-wrapped line would overwrite the live figures below it.
        soft_wrap = not self._live.is_started
        self._console.print(text, highlight=False, markup=False, soft_wrap=soft_wrap)


def render(name: str, progress: Progress) -> RenderableType:
    """Returns the figures of a study, and a line for each running job.

    Before the first trial starts, the phase stands beside the name of the study. A trial whose
    accuracy is at the goal is marked.
    """
    phase, outcomes = progress.phase, progress.outcomes
    head = Text(name, style="bold") if phase is None else _phase(name, phase)
    if phase is not None and not outcomes:  # no trial has been read yet, so figures would be zeros
        return head
    jobs = Table.grid(padding=(0, 2))
    for number, running in progress.running.items():
        jobs.add_row(*_job(number, running, progress.goals))
    return Group(head, *(Text("  ".join(line)) for line in _figures(progress)), jobs)


def _figures(progress: Progress) -> Iterator[list[str]]:
    """Yields the figures of a study, a line at a time: the trials, the draws, what was found."""
    states = [outcome.state for outcome in progress.outcomes.values()]
    running, survey = sum(number >= 0 for number in progress.running), progress.survey
    trials = [f"trials {len(states)}/{progress.total}", f"running {running}"]
    if goals := progress.goals:
        trials.append(f"feasible {len(progress.feasible)}")
    counts = [f"stopped {states.count('stopped')}", f"failed {states.count('failed')}"]
    yield trials + counts
    if goals:
        wanted = f"goal: accuracy {goals.accuracy.at_least:g}, score {goals.score.at_most:g}"
        latency = f", latency {goals.latency.at_most:g} ms" if goals.latency else ""
        yield [f"draws: {progress.screened} screened", wanted + latency]
    best = "-" if survey.best_score is None else f"{survey.best_score:.6f}"
    found = [f"front {len(survey.front)}", f"best score {best}"]
    found.append(f"hypervolume {survey.hypervolume:.4g}")
    if progress.seconds_left is not None:
        found.append(f"{duration(progress.seconds_left)} left")
    yield found


def _job(number: int, running: Running, goals: Objectives | None) -> Iterator[RenderableType]:
    """Yields the cells of a running job, which fit into 80 columns."""
    yield running.name if number >= 0 else "teacher"
    yield ProgressBar(total=max(1, running.epochs), completed=running.epoch, width=14)
    yield running.stage or ""
    yield f"epoch {running.epoch}/{running.epochs}" if running.epochs else "starting"
    accuracy = "" if running.accuracy is None else f"accuracy {running.accuracy:.4f}"
    if running.accuracy and goals and running.accuracy >= goals.accuracy.at_least:
        accuracy += " goal"
    yield accuracy


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
