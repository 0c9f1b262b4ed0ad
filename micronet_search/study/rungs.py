"""The rungs of a study: which trials go on past them."""

from collections.abc import Mapping, Sequence

import numpy as np

from micronet_search.config.search import EarlyStopping
from micronet_search.config.sweep import Objectives
from micronet_search.engine.work import Order, Stop
from micronet_search.search.stopping import RUNGS, Standing, finished, verdict
from micronet_search.store.outcome import Epoch, Outcome
from micronet_search.study.draws import Drawn
from micronet_search.study.survey import meets_latency, points


class Rungs:
    """Decides at each rung whether a trial goes on, by the trials that were there before."""

    def __init__(
        self, early: EarlyStopping, objectives: Objectives, outcomes: Mapping[int, Outcome]
    ) -> None:
        """Starts without any trial.

        Args:
            early: The rules, and where the rungs are.
            objectives: The study's.
            outcomes: Of the trials that have ended; it may grow.
        """
        self._early = early
        self._objectives = objectives
        self._outcomes = outcomes
        self._points: dict[int, dict[int, tuple[float, float]]] = {}  # by the rung, then the trial

    def remember(self, number: int, points: Mapping[str, Sequence[float]]) -> None:
        """Takes in what Optuna keeps of a trial: accuracy and score at each rung it reached."""
        for rung, (accuracy, score) in points.items():
            self._points.setdefault(int(rung), {})[number] = (accuracy, score)

    def order(self, drawn: Drawn, row: Epoch) -> Order:
        """Returns whether a trial goes on after an epoch, which need not be a rung's."""
        epochs = drawn.candidate.training.epochs
        if not self._early.rule or row.epoch not in self._early.rungs(epochs):
            return "go"
        goals, number, point = self._objectives, drawn.number, (row.accuracy, drawn.score)
        reached = self._points.setdefault(row.epoch, {})
        reached[number] = point
        passed = {rung: known[number] for rung, known in self._points.items() if number in known}
        drawn.trial.set_user_attr(RUNGS, passed)
        others = [known for other, (known, _) in reached.items() if other != number]
        rivals = {n: one for n, one in self._outcomes.items() if meets_latency(one, goals)}
        standing = Standing(
            row.epoch,
            *point,
            others=np.array(others, dtype=float),
            finished=finished(self._outcomes.values(), row.epoch / epochs),
            complete=points(rivals, goals),
        )
        reason = verdict(standing, self._early, goals.accuracy.at_least)
        return "go" if reason is None else Stop(reason)
