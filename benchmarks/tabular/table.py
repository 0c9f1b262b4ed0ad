"""A table of trained candidates, for replays."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from micronet_search.config.distributions import draw, leaves
from micronet_search.config.files import load_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.search.encoding import encode
from micronet_search.search.pareto import hypervolume
from micronet_search.search.prospects import Prospect, Prospects

HERE = Path(__file__).parent


@dataclass
class Row:
    """A candidate: its predicted score, and the accuracy and the epochs' accuracies by seed."""

    score: float
    epochs: int
    accuracies: list[float] = field(default_factory=list)
    curves: list[list[float]] = field(default_factory=list)

    @property
    def accuracy(self) -> float:
        """The mean over the seeds."""
        return mean(self.accuracies)


class Remembered(Prospects):
    """Looks up each draw once."""

    def __init__(self, sweep: Sweep) -> None:
        super().__init__(sweep)
        self._known: dict[str, Prospect] = {}

    def of(self, tree: dict[str, Any]) -> Prospect:
        key = json.dumps(tree)
        if key not in self._known:
            self._known[key] = super().of(tree)
        return self._known[key]


@dataclass
class Table:
    """A space, every candidate of which was trained.

    Attributes:
        rows: By the digest of the candidate.
        best: The feasible hypervolume of all rows.
    """

    sweep: Sweep
    prospects: Prospects
    rows: dict[str, Row]
    best: float

    @classmethod
    def read(cls, name: str) -> Table:
        """Reads `NAME.yaml` and `NAME.csv` in this folder."""
        sweep = load_sweep(HERE / f"{name}.yaml")
        prospects, rows = Remembered(sweep), dict[str, Row]()
        with (HERE / f"{name}.csv").open(newline="") as file:
            for line in csv.DictReader(file):
                prospect = prospects.of(_tree(sweep, line))
                epochs = prospect.candidate.training.epochs
                row = rows.setdefault(prospect.digest, Row(prospect.score, epochs))
                row.accuracies.append(float(line["accuracy"]))
                curve = [float(line[key]) for key in line if key.startswith("epoch")]
                row.curves.append(curve)
        goals = sweep.objectives
        points = np.array([(row.accuracy, row.score) for row in rows.values()])
        best = hypervolume(points, (goals.accuracy.at_least, goals.score.at_most))
        return cls(sweep, prospects, rows, best)


def _tree(sweep: Sweep, line: dict[str, str]) -> Any:
    """Returns the tree whose choices stand in a line."""
    picked = {
        path: option
        for path, (found, _) in leaves(sweep.space).items()
        for option in found.options()
        if str(encode(found, option)) == line[path]
    }
    return draw(sweep.space, lambda path, found: picked[path]).tree
