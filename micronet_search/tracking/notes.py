"""What MLflow's pages say of a study in words, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from micronet_search.config.sweep import Sweep

NOTE = "mlflow.note.content"
"""The tag that MLflow shows as the description of a run or an experiment."""

EXPERIMENT = (
    "A study of micronet-search: the cheapest networks that still reach a target accuracy. Saved "
    "views stand above the table of runs: **Trials**, **Front**, **Feasible**, **Stopped**, "
    "**Learning curves**, **Choices** and **Repeats**; the lowest score comes first. The study's "
    "own run says which network won, and how to ship it. `score_millionths` is the score times a "
    "million, `score_log10` its logarithm."
)
_ON_FRONT = "front: "
_MOST_ROWS = 20


def study(
    sweep: Sweep, front: Sequence[Mapping[str, Any]], winner: Mapping[str, Any] | None
) -> str:
    """Returns the description of a study.

    Args:
        sweep: The study's.
        front: Its rows, the lowest score first.
        winner: The row of the trial that `export --best` ships, which need not be on the front.
    """
    return "\n\n".join(_paragraphs(sweep, front, winner)) + "\n"


def _paragraphs(
    sweep: Sweep, front: Sequence[Mapping[str, Any]], winner: Mapping[str, Any] | None
) -> Iterator[str]:
    goals, search = sweep.objectives, sweep.search
    if winner is None:
        yield "No trial reaches the goals yet."
    else:
        place = "that is confirmed" if winner.get("confirmed") else "on the front"
        found = f"{winner['accuracy']:.1%} at a score of {winner['score']:.3g}"
        yield f"**Trial {winner['trial']} won: {found}**, the cheapest {place}."
    if front:
        yield _table(front)
    latency = f", latency <= {goals.latency.at_most:g} ms" if goals.latency else ""
    yield (
        f"Goals: accuracy >= {goals.accuracy.at_least:.4g}, {goals.score.rule} score <= "
        f"{goals.score.at_most:g}{latency}. Dataset {sweep.dataset.name}, sampler "
        f"{search.sampler.name}, seed {search.seed}."
    )
    yield (
        "Made by `micronet-search run sweep.yaml`, which is among the artifacts. "
        f"`micronet-search confirm {sweep.name}` trains the front again, and "
        f"`micronet-search export {sweep.name} --best` ships its network."
    )


def _table(front: Sequence[Mapping[str, Any]]) -> str:
    lines = ["| trial | accuracy | score | test accuracy |", "|---" * 4 + "|"]
    for row in front[:_MOST_ROWS]:
        tested = row.get("test_accuracy")
        cells = [row["trial"], f"{row['accuracy']:.2%}", f"{row['score']:.4g}"]
        cells.append("" if tested is None else f"{tested:.2%}")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def settings(sweep: Sweep) -> dict[str, Any]:
    """Returns what a study keeps over all its starts, for the parameters of its run."""
    goals, search, dataset = sweep.objectives, sweep.search, sweep.dataset
    found = {
        "dataset": dataset.name,
        "dataset.validation": dataset.validation,
        "dataset.limit": dataset.limit,
        "score.rule": goals.score.rule,
        "score.at_most": goals.score.at_most,
        "latency.at_most": goals.latency and goals.latency.at_most,
        "sampler": search.sampler.name,
        "seed": search.seed,
        "compressions_per_network": search.compressions_per_network,
        "early_stopping": " ".join(search.early_stopping.rule) or None,
    }
    return {name: value for name, value in found.items() if value is not None}


def marked(note: str, on_front: bool) -> str:
    """Returns the description of a trial, which begins with whether it is on the front."""
    return _ON_FRONT * on_front + note.removeprefix(_ON_FRONT)
