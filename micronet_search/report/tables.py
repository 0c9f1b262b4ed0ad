"""What the commands print: tables for people, JSON and CSV for programs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, get_args

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from micronet_search.report.page.words import short_names, shown
from micronet_search.report.view import View
from micronet_search.scoring.cost import Cost
from micronet_search.scoring.rules import scores
from micronet_search.store.files import to_csv
from micronet_search.store.outcome import State

STATES = get_args(State)


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str | int]], title: str | None = None
) -> Table:
    """Returns a table whose numbers have separators between thousands."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=i > 0, overflow="fold")
    for row in rows:
        # as they are: a name out of a file may look like markup
        table.add_row(*(Text(cell if isinstance(cell, str) else f"{cell:,}") for cell in row))
    return table


@dataclass(frozen=True)
class FrontTable:
    """The front of a study for people, with what repeats say of it if there are any.

    The choices that differ among its trials are columns, as many as the console has room for; the
    others are named below.
    """

    view: View
    rows: Sequence[Mapping[str, Any]]
    choices: Mapping[int, Mapping[str, Any]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the table and the line below it."""
        names = short_names(differing(self.choices))
        fitting, unbounded = dict(names), options.update(width=10_000)
        found = self._with(fitting)
        while fitting and console.measure(found, options=unbounded).maximum > options.max_width:
            fitting.popitem()
            found = self._with(fitting)
        yield found
        if left := [name for path, name in names.items() if path not in fitting]:
            yield Text(f"choices that differ too: {', '.join(left)} (--format csv has them)")

    def _with(self, names: Mapping[str, str]) -> Table:
        title = f"front of {self.view.sweep.name}"
        return _found_table(self.view, self.rows, title, self.choices, names)


def front_table(view: View) -> FrontTable:
    """Returns the front of a study for people; an empty one is an error."""
    return FrontTable(view, view.front(), view.front_choices())


def differing(choices: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Returns the dotted paths of the choices that are not the same in all of some trials."""
    paths = dict.fromkeys(path for chosen in choices.values() for path in chosen)
    rows = list(choices.values())
    return [path for path in paths if any(row.get(path) != rows[0].get(path) for row in rows)]


def repeated_table(view: View) -> Table:
    """Returns the trials of a study that were repeated, on the front or close to it."""
    return _found_table(view, view.repeated(), f"repeated trials of {view.sweep.name}", {}, {})


def _found_table(
    view: View,
    found: Iterable[Mapping[str, Any]],
    title: str,
    choices: Mapping[int, Mapping[str, Any]],
    names: Mapping[str, str],
) -> Table:
    """Returns a row for each trial, with the choices of the paths in `names` at its end."""
    columns = ["trial", "accuracy", view.score_title, "parameters", "nonzeros", "MACs"]
    if has_latency := view.sweep.objectives.latency is not None:
        columns.append("latency (ms)")
    if view.confirmations:
        columns += ["test accuracy", "seeds", "95 % interval", "confirmed"]
    rows = []
    for row in found:
        figures = [str(row["trial"]), f"{row['accuracy']:.4f}", f"{row['score']:.6f}"]
        figures += [row["parameters"], row["nonzeros"], row["macs"]]
        figures += [f"{row['latency_ms']:.3f}"] if has_latency else []
        figures += _confirmation(row) if view.confirmations else []
        chosen = choices.get(row["trial"], {})
        rows.append([*figures, *(shown(chosen[path]) if path in chosen else "-" for path in names)])
    return table([*columns, *names.values()], rows, title)


def _confirmation(row: Mapping[str, Any]) -> list[str]:
    """Returns what repeats say of a trial; dashes where there are none."""
    if "confirmed" not in row:
        return ["-"] * 4
    deviation = row["test_deviation"]
    accuracy = f"{row['test_accuracy']:.4f}" + ("" if deviation is None else f" ± {deviation:.4f}")
    interval = f"{row['test_low']:.4f} to {row['test_high']:.4f}"
    return [accuracy, str(row["seeds"]), interval, "yes" if row["confirmed"] else "no"]


def front_csv(view: View) -> str:
    """Returns the front as CSV: the figures, then a column for each choice, by its dotted path.

    A cell is empty where a trial has no such choice: it belongs to another branch.
    """
    choices = view.front_choices()
    paths = dict.fromkeys(path for chosen in choices.values() for path in chosen)
    rows = []
    for row in view.front():
        del row["candidate"]
        chosen = choices.get(row["trial"], {})
        rows.append(flat(row) | {path: chosen.get(path, "") for path in paths})
    return to_csv(rows)


def flat(tree: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by their dotted paths."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        path = f"{above}{name}"
        found |= flat(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return found


def status_table(views: Iterable[View]) -> Table:
    """Returns a table with a row for each study, and whether its driver runs.

    What no study has, failed trials for example, has no column, so that most tables fit 80 columns.
    """
    rows, counts = [], []
    for view in views:
        states = [outcome.state for outcome in view.outcomes.values()]
        total, best = view.sweep.search.trials, view.survey.best_score
        counts.append([*map(states.count, STATES), len(view.unfinished)])
        figures = ["-" if best is None else f"{best:.6f}", f"{view.survey.hypervolume:.4g}"]
        start = [view.sweep.name, view.state, f"{len(states)}/{total}"]
        rows.append((start, [str(len(view.survey.front)), *figures]))
    titles = (*STATES, "unfinished")
    kept = [i for i in range(len(titles)) if any(row[i] for row in counts)]
    columns = ["study", "state", "trials", *(titles[i] for i in kept)]
    cells = [
        [*start, *(str(row[i]) for i in kept), *end]
        for (start, end), row in zip(rows, counts, strict=True)
    ]
    return table([*columns, "front", "best score", "hypervolume"], cells)


def trials_table(view: View) -> Table:
    """Returns a table with a row for each trial of a study."""
    latency = ["latency (ms)"] if view.sweep.objectives.latency else []
    figures_of = ["accuracy", view.score_title, *latency]
    columns = ["trial", "state", *figures_of, "epochs", "seconds", "front"]
    rows = []
    for number, outcome in view.outcomes.items():
        figures = ["-"] * len(figures_of)
        if outcome.accuracy is not None:
            figures[:2] = [f"{outcome.accuracy:.4f}", f"{view.score(number):.6f}"]
        if latency and outcome.latency_ms is not None:
            figures[2] = f"{outcome.latency_ms:.3f}"
        epochs, seconds = str(len(outcome.curve)), f"{sum(outcome.seconds.values()):.0f}"
        mark = "*" if number in view.survey.front else ""
        rows.append([str(number), outcome.state, *figures, epochs, seconds, mark])
    blank = ["unfinished", *["-"] * (len(columns) - 3), ""]
    rows += [[str(number), *blank] for number in view.unfinished]
    return table(columns, rows)


def cost_table(cost: Cost) -> Table:
    """Returns the layers of a network that store something, with the cost of each."""
    columns = ["layer", "kind", "weights", "nonzeros", "bits", "input bits", "MACs"]
    fields = ("name", "kind", "elements", "nonzeros", "weight_bits", "activation_bits", "macs")
    return table(columns, [attrgetter(*fields)(layer) for layer in cost.layers if layer.elements])


def cost_lines(cost: Cost) -> list[str]:
    """Returns the total cost of a network in words, and its score by each score rule."""
    stored = f"{cost.parameters:,} parameters, {cost.nonzeros:,} nonzeros stored"
    lines = [f"{stored}, {cost.macs:,} MACs, {cost.storage_bytes:,} bytes"]
    for rule, score in scores(cost).items():
        parts = f"parameters {score.parameters:.6f} + operations {score.operations:.6f}"
        lines.append(f"{rule}: score {score.score:.6f} = {parts}")
    return lines


def cost_json(cost: Cost) -> dict[str, Any]:
    """Returns the cost and the scores of a network as plain values."""
    return {
        **cost.totals(),
        "scores": {name: score.to_json() for name, score in scores(cost).items()},
        "layers": [layer.to_json() for layer in cost.layers],
    }
