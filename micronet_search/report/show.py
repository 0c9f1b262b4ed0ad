"""Everything that is known of one trial: how it ended, its choices, stages, layers and files."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from micronet_search.config.loading import read_bytes
from micronet_search.report.live import duration
from micronet_search.report.page.words import shown
from micronet_search.report.tables import table
from micronet_search.report.view import View
from micronet_search.store.files import MAX_JSON
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import TrialFolder
from micronet_search.study.history import read_draws
from micronet_search.study.survey import is_feasible, violations

_LAYERS = ("name", "kind", "weights", "nonzeros", "weight_bits", "activation_bits", "macs")
_TITLES = ("layer", "kind", "weights", "nonzeros", "bits", "input bits", "MACs")


def show(view: View, number: int) -> RenderableType:
    """Returns what is known of a trial, for people.

    Raises:
        ValueError: The study has no such trial.
    """
    folder, outcome = view.folder.trial(number), view.outcomes.get(number)
    if outcome is None and number not in view.unfinished:
        count = len(view.outcomes) + len(view.unfinished)
        raise ValueError(
            f"no trial {number} in {view.sweep.name}, expected one of its {count} trials; draws "
            "that were screened have none"
        )
    parts: list[RenderableType] = [Text(headline(view, number), style="bold")]
    if outcome is not None:
        parts += [Text(line) for line in figures(view, number, outcome)]
    parts += ["", *_choices(view, number)]
    if outcome is not None and outcome.seconds:
        parts += ["", stages(outcome)]
    if folder.layers.exists():
        parts += ["", layers(folder)]
    return Group(*parts, "", Text(f"files in {folder.path}", style="bold"), files(folder))


def headline(view: View, number: int) -> str:
    """Returns in one line how a trial ended."""
    text, outcome = f"trial {number} of {view.sweep.name}: ", view.outcomes.get(number)
    if outcome is None:
        return text + "unfinished"
    goals, state = view.sweep.objectives, [str(outcome.state)]
    if number in view.survey.front:
        state.append("on the front")
    elif is_feasible(outcome, goals):
        state.append("feasible")
    missed = [name for name, by in violations(outcome, goals).items() if by > 0]
    if missed:
        state.append(f"misses the goal for the {' and the '.join(missed)}")
    return text + ", ".join(state) + (f": {outcome.reason}" if outcome.reason else "")


def figures(view: View, number: int, outcome: Outcome) -> Iterator[str]:
    """Yields the figures of a trial in words, a line at a time."""
    if outcome.accuracy is not None:
        parts = outcome.scores[view.sweep.objectives.score.rule]
        yield f"accuracy {outcome.accuracy:.4f} on the validation split"
        yield (
            f"{view.score_title} {parts['score']:.6f} = parameters {parts['parameters']:.6f} "
            f"+ operations {parts['operations']:.6f}"
        )
        counts = f"{outcome.parameters:,} parameters, {outcome.nonzeros:,} nonzeros"
        yield f"{counts}, {outcome.macs:,} MACs, {outcome.storage_bytes:,} bytes"
    if outcome.latency_ms is not None:
        yield f"latency {outcome.latency_ms:.3f} ms"
    if (found := view.confirmations.get(number)) and found.accuracies:
        verdict = "confirmed" if found.reaches(view.goal) else "not confirmed"
        seeds = "1 seed" if len(found.accuracies) == 1 else f"{len(found.accuracies)} seeds"
        yield f"test accuracy {found.mean:.4f}, the mean of {seeds}: {verdict}"
    if outcome.base is not None:
        yield f"compresses the network of trial {outcome.base}"
    begun = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(outcome.started))
    yield f"began {begun} on {outcome.device}, took {duration(sum(outcome.seconds.values()))}"


def _choices(view: View, number: int) -> Iterator[RenderableType]:
    try:
        params = read_draws(view.folder, view.sweep)[number].params
    except (ValueError, LookupError) as error:
        yield Text(f"the choices cannot be read: {error}")
        return
    rows = [(path, shown(value)) for path, value in params.items()]
    yield table(["choice", "value"], rows) if rows else Text("the sweep leaves no choice open")


def stages(outcome: Outcome) -> Table:
    """Returns the stages of a trial: their epochs, the accuracy after each, and their time."""
    trained = {
        stage: list(rows) for stage, rows in groupby(outcome.curve, key=lambda row: row.stage)
    }
    rows: list[list[str | int]] = []
    for stage, seconds in outcome.seconds.items():
        curve = trained.get(stage, [])
        accuracy = f"{curve[-1].accuracy:.4f}" if curve else "-"
        rows.append([stage, len(curve), accuracy, f"{seconds:.1f}"])
    if outcome.state == "complete" and outcome.accuracy is not None:
        rows.append(["as stored", "-", f"{outcome.accuracy:.4f}", "-"])
    return table(["stage", "epochs", "accuracy", "seconds"], rows)


def layers(folder: TrialFolder) -> Table:
    """Returns the layers of a trial's network that store or compute something.

    Raises:
        ValueError: Their file is damaged.
    """
    text = read_bytes(folder.layers, MAX_JSON).decode(errors="replace")
    try:
        found = [[row[name] for name in _LAYERS] for row in csv.DictReader(text.splitlines())]
        rows = [(row[:2], [int(count) for count in row[2:]]) for row in found]
    except (LookupError, ValueError, TypeError, csv.Error):
        raise ValueError(f"{folder.layers} is damaged, expected the cost of layers") from None
    return table(_TITLES, [[*names, *counts] for names, counts in rows if counts[0] or counts[4]])


def files(folder: TrialFolder) -> Table:
    """Returns the files of a trial with their sizes."""
    found = sorted(path for path in folder.path.iterdir() if path.is_file())
    rows = [(path.name, path.stat().st_size) for path in found if path.name[0] != "."]
    return table(["file", "bytes"], rows)
