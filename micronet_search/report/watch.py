"""Follows a study that another process runs, from its files."""

from __future__ import annotations

import time

from micronet_search.config.files import load_candidate
from micronet_search.report.view import View, read
from micronet_search.store.owner import is_running
from micronet_search.store.paths import Root, TrialFolder
from micronet_search.study.history import read_draws
from micronet_search.study.progress import Observer, Progress, Running
from micronet_search.trial import saved
from micronet_search.trial.stages import total_epochs

SECONDS = 2.0
"""Between two looks at the files of a study."""


def watch(root: Root, name: str, observe: Observer) -> View:
    """Shows the progress of a study until no driver runs it; nothing is written.

    A trial stands where its last checkpoint is, which may be minutes ago.

    Raises:
        ValueError: The study is missing or damaged.
    """
    folder, progress = root.started(name), Progress(0)
    known: set[int] | None = None
    while True:
        goes_on = is_running(folder)  # asked first: what is read then is the whole of it
        view = read(root, name)
        if known is None or view.outcomes.keys() != known:
            progress = progress_of(view)
        progress.running = running(view) if goes_on else {}
        progress.estimate(None, len(progress.running))
        ended = sorted(view.outcomes.keys() - known) if known is not None else []
        for number in ended:
            observe(progress, progress.line(number, view.sweep.objectives))
        observe(progress, None)
        known = set(view.outcomes)
        if not goes_on:
            return view
        time.sleep(SECONDS)


def progress_of(view: View) -> Progress:
    """Returns how far a study is, by the trials that have ended and the draws."""
    goals = view.sweep.objectives
    progress = Progress(view.sweep.search.trials, goals=goals)
    for number, outcome in view.outcomes.items():
        progress.add(number, outcome, goals)
    draws = read_draws(view.folder, view.sweep).values()
    progress.screened = sum(draw.screened is not None for draw in draws)
    return progress


def running(view: View) -> dict[int, Running]:
    """Returns the trials that have begun and not ended, each at its last checkpoint."""
    return {
        number: _running(f"trial {number}", view.folder.trial(number))
        for number in view.unfinished
        if view.folder.trial(number).candidate.exists()
    }


def _running(name: str, folder: TrialFolder) -> Running:
    epochs = total_epochs(load_candidate(folder.candidate))
    try:
        row = saved.read_history(folder.checkpoint).curve[-1]
    except (FileNotFoundError, LookupError):  # the first one is still to come
        return Running(name, 0, epochs)
    return Running(name, row.epoch, epochs, row.accuracy, row.stage)
