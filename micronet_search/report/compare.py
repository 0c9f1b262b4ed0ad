"""Several studies side by side, judged by the same goals: the strictest of each kind."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from micronet_search.config.sweep import Objectives
from micronet_search.report.live import duration
from micronet_search.report.page.write import PICTURES
from micronet_search.report.tables import table
from micronet_search.report.view import View
from micronet_search.search import pareto
from micronet_search.store.files import write_bytes
from micronet_search.study.clock import Clock
from micronet_search.study.resume import read_fingerprints
from micronet_search.study.survey import Survey, is_feasible, points, score_of, survey

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LOOKS = ("o-", "s--", "^-.", "D:", "v-", "P--")  # told apart without colour too


@dataclass(frozen=True)
class Comparison:
    """Studies by the same goals; `surveys` has what each of them found, in the same order."""

    views: Sequence[View]
    goals: Objectives
    surveys: Sequence[Survey]

    @property
    def judged_by(self) -> str:
        """The goals in words."""
        rule = self.goals.score.rule
        text = f"accuracy >= {self.goals.accuracy.at_least:g}, "
        text += f"{rule} score <= {self.goals.score.at_most:g}"
        if self.goals.latency is not None:
            text += f", latency <= {self.goals.latency.at_most:g} ms"
        elif any(view.sweep.objectives.latency for view in self.views):
            text += ", not by the latency, which not all of them have a goal for"
        return f"all are judged by the strictest goals: {text}"

    def joint_front(self) -> set[tuple[str, int]]:
        """Returns the trials, by study and number, that no trial of any study dominates."""
        found = [
            (view.sweep.name, number)
            for view, one in zip(self.views, self.surveys, strict=True)
            for number in one.front
        ]
        by_name = {view.sweep.name: view for view in self.views}
        outcomes = {i: by_name[name].outcomes[number] for i, (name, number) in enumerate(found)}
        return {found[i] for i in pareto.front(points(outcomes, self.goals))}


def compare(views: Sequence[View]) -> Comparison:
    """Compares studies.

    Raises:
        ValueError: There are fewer than two, or they do not have the score rule and the images in
            common.
    """
    names = [view.sweep.name for view in views]
    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise ValueError(f"found {', '.join(names)}, expected two or more different studies")
    for view in views[1:]:
        _require_same(views[0], view)
    goals = strictest([view.sweep.objectives for view in views])
    return Comparison(views, goals, [survey(view.outcomes, goals) for view in views])


def _require_same(first: View, other: View) -> None:
    names = f"{first.sweep.name} and {other.sweep.name}"
    rules = [view.sweep.objectives.score.rule for view in (first, other)]
    if rules[0] != rules[1]:
        raise ValueError(
            f"{names} are scored by {rules[0]} and {rules[1]}, expected studies of one score rule"
        )
    datasets = [view.sweep.dataset.name for view in (first, other)]
    found = [read_fingerprints(view.folder) for view in (first, other)]
    if found[0]["validation"] != found[1]["validation"]:
        raise ValueError(
            f"{names} are judged on other images, of {datasets[0]} and of {datasets[1]}, expected "
            "studies of one dataset and validation split"
        )


def strictest(goals: Sequence[Objectives]) -> Objectives:
    """Returns the strictest goal of each kind; one for the latency where all have one."""
    first, latencies = goals[0], [one.latency for one in goals if one.latency is not None]
    least = max(one.accuracy.at_least for one in goals)
    most = min(one.score.at_most for one in goals)
    latency = min(latencies, key=lambda one: one.at_most) if len(latencies) == len(goals) else None
    return first.model_copy(
        update={
            "accuracy": first.accuracy.model_copy(update={"at_least": least}),
            "score": first.score.model_copy(update={"at_most": most}),
            "latency": latency,
        }
    )


def studies_table(found: Comparison) -> Table:
    """Returns a table with a row for each study."""
    joint = found.joint_front()
    rows = []
    for view, one in zip(found.views, found.surveys, strict=True):
        feasible = sum(is_feasible(outcome, found.goals) for outcome in view.outcomes.values())
        leading = sum(name == view.sweep.name for name, _ in joint)
        best = "-" if one.best_score is None else f"{one.best_score:.6f}"
        took = duration(Clock(view.folder.clock, None).seconds)
        counts = map(str, (len(view.outcomes), feasible, len(one.front), leading))
        rows.append([view.sweep.name, *counts, best, f"{one.hypervolume:.4g}", took])
    score = f"best {found.views[0].score_title}"
    columns = ["study", "trials", "feasible", "front", "of the joint front", score]
    return table([*columns, "hypervolume", "time"], rows)


def fronts_table(found: Comparison) -> Table:
    """Returns the trials on the fronts, lowest score first; a star marks the joint front."""
    joint, rows = found.joint_front(), []
    for view, one in zip(found.views, found.surveys, strict=True):
        for number in one.front:
            score, outcome = score_of(view.outcomes[number], found.goals), view.outcomes[number]
            mark = "*" if (view.sweep.name, number) in joint else ""
            figures = [str(number), f"{outcome.accuracy:.4f}", f"{score:.6f}", mark]
            rows.append((score, [view.sweep.name, *figures]))
    columns = ["study", "trial", "accuracy", found.views[0].score_title, "joint front"]
    return table(columns, [row for _, row in sorted(rows)])


def write_picture(found: Comparison, file: Path) -> None:
    """Writes the picture of the fronts, of the kind that the file's ending says.

    Raises:
        ValueError: The ending is another one.
    """
    kind = file.suffix.lower()
    if kind not in PICTURES:
        expected = f"expected one of {', '.join(PICTURES)}"
        raise ValueError(f"{file}: found the ending {kind or 'none'!r}, {expected}")
    written = io.BytesIO()
    picture(found).savefig(written, format=kind[1:])
    write_bytes(file, written.getvalue())


def picture(found: Comparison) -> Figure:
    """Draws the front of each study as a stepped line over the score, and the goals dashed."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

    goals = found.goals
    figure = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    axes = figure.add_subplot(xscale="log")
    axes.axhline(100 * goals.accuracy.at_least, color="grey", linestyle="--", linewidth=1)
    axes.axvline(goals.score.at_most, color="grey", linestyle="--", linewidth=1, label="goals")
    for i, (view, one) in enumerate(zip(found.views, found.surveys, strict=True)):
        front = points({number: view.outcomes[number] for number in one.front}, goals)
        front = front[front[:, 1] > 0]  # which a logarithm has a place for
        look, color = _LOOKS[i % len(_LOOKS)], f"C{i % 10}"
        axes.step(
            front[:, 1],
            100 * front[:, 0],
            look,
            where="post",
            color=color,
            markersize=5,
            label=view.sweep.name,
        )
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(f"score ({goals.score.rule}), lower is better")
    axes.set_ylabel("accuracy on the validation split, %")
    axes.grid(True, linewidth=0.4, alpha=0.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", framealpha=0.85, edgecolor="none", fontsize=9)
    return figure
