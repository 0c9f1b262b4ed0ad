"""Ranks a folder of networks: the cheapest of those that are accurate enough comes first."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track

from micronet_search.config.sweep import Dataset
from micronet_search.data.splits import load
from micronet_search.report.judge import Measured, Split, judge, submissions
from micronet_search.scoring.graphs.file import printable
from micronet_search.scoring.rules import RULES
from micronet_search.study.confirmation import wilson

_MOST_LETTERS = 255  # no file has a longer name, so that no two look the same


@dataclass(frozen=True)
class Goals:
    """What makes a submission feasible: an accuracy, 0 to 1, and a ceiling of its score."""

    at_least: float
    at_most: float = math.inf
    rule: str = "imt"

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise ValueError(f"--rule: found {self.rule}, expected one of {', '.join(RULES)}")
        if math.isnan(self.at_least + self.at_most):
            raise ValueError("--at-least, --at-most: found nan, expected numbers")

    def misses(self, found: Measured) -> str:
        """Returns what a submission misses, in words; nothing where it is feasible."""
        accuracy = f"the accuracy is below {self.at_least:g}"
        score = f"the score is above {self.at_most:g}"
        missed = [accuracy] * (found.accuracy < self.at_least)
        return ", ".join(missed + [score] * (found.score > self.at_most))

    def __str__(self) -> str:
        ceiling = "" if math.isinf(self.at_most) else f" and a score of at most {self.at_most:g}"
        return f"an accuracy of at least {self.at_least:g}{ceiling}"


@dataclass(frozen=True)
class Entry:
    """A submission in its place; without figures it could not be judged.

    Attributes:
        rank: Equal for submissions that are equal; None where it could not be judged.
        interval: The 95 % interval of the accuracy for new images.
        reason: Why it is not feasible, or could not be judged.
    """

    rank: int | None
    name: str
    measured: Measured | None
    interval: tuple[float, float] | None
    reason: str

    @property
    def feasible(self) -> str:
        """Whether it is, in words."""
        if self.measured is None:
            return "not judged"
        return "no" if self.reason else "yes"


@dataclass(frozen=True)
class Leaderboard:
    """Submissions in their order, and how they were judged; the date is that of the day, UTC."""

    entries: Sequence[Entry]
    goals: Goals
    dataset: str
    images: int
    date: str

    @property
    def caption(self) -> str:
        """How they were judged, in words."""
        return (
            f"Accuracy on the {self.images:,} test images of {self.dataset}, score by the rule "
            f"{self.goals.rule}. Feasible: {self.goals}. {self.date}."
        )

    def reasons(self) -> list[str]:
        """Returns a line for each submission that is not feasible."""
        return [f"{entry.name}: {entry.reason}" for entry in self.entries if entry.reason]


def rank(found: Mapping[str, Measured | str], images: int, goals: Goals) -> list[Entry]:
    """Puts submissions in their order, from what was measured or why nothing was, by name.

    First come the feasible ones, the lowest score first; then the others, those that miss the
    accuracy least first; then those that could not be judged. Equal ones are in the order of their
    names. `images` is how many were tested on.
    """

    def place(name: str) -> tuple[float, ...]:
        figures = found[name]
        if isinstance(figures, str):
            return (2,)
        missed = max(0.0, goals.at_least - figures.accuracy)
        return bool(goals.misses(figures)), missed, figures.score, -figures.accuracy

    order = sorted(found, key=lambda name: (place(name), name))
    places = [place(name) for name in order]
    entries = []
    for name in order:
        figures, shown = found[name], printable(name, _MOST_LETTERS)
        if isinstance(figures, str):
            entries.append(Entry(None, shown, None, None, figures))
            continue
        number, interval = places.index(place(name)) + 1, wilson(figures.accuracy, images)
        entries.append(Entry(number, shown, figures, interval, goals.misses(figures)))
    return entries


def find_dataset(text: str) -> Dataset:
    """Returns the dataset of a name, or the one in a folder."""
    if text in ("digits", "cifar10"):
        return Dataset.model_validate({"name": text})
    marks = {"parquet": "test-*.parquet", "cifar10": "cifar-10-batches-py", "folder": "test"}
    for name, mark in marks.items():
        if any(Path(text).glob(mark)):
            return Dataset.model_validate({"name": name, "root": text})
    raise ValueError(
        f"--dataset: found no dataset in {text}, expected digits, cifar10, or a folder that holds "
        f"one of {', '.join(marks.values())}"
    )


def leaderboard(folder: Path, dataset: str, goals: Goals, seconds: float) -> Leaderboard:
    """Judges every submission in a folder on the test split of a dataset.

    Raises:
        ValueError: There is no submission, or no such dataset.
    """
    found, splits = submissions(folder), load(find_dataset(dataset))
    test = splits.test
    split = Split(test.images.numpy(), test.labels.numpy(), splits.classes)
    judged = {path.name: judge(path, split, goals.rule, seconds) for path in _shown(found)}
    entries = rank(judged, len(test), goals)
    name, today = printable(Path(dataset).resolve().name), time.strftime("%Y-%m-%d", time.gmtime())
    return Leaderboard(entries, goals, name, len(test), today)


def _shown(found: Sequence[Path]) -> Iterable[Path]:
    """Shows in a terminal how many have been judged."""
    console = Console(stderr=True)
    return track(found, "judging", console=console, transient=True, disable=not console.is_terminal)
