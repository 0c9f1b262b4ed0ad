"""The frontier sampler: of many candidates whose scores are known, it draws the most promising."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from micronet_search.config.sweep import Objectives
from micronet_search.search.encoding import Parameters
from micronet_search.search.pareto import Floats, Points, expected_gains, front
from micronet_search.search.pool import Offer, Pool
from micronet_search.search.screening import DIGEST, LATENCY, SCREENED
from micronet_search.search.stopping import RUNGS
from micronet_search.search.surrogate import floored, forecast

BEST = 5
"""So many of the most accurate trials are varied while none is feasible."""

_SLOW = f"constraints:{LATENCY}"  # where Optuna keeps what `set_constraint` was given

FINAL = 2.0
"""What a complete trial has in the place of a rung's share of the first fit."""


class FrontierSampler(BaseSampler):
    """Draws the candidate with the largest expected gain of feasible hypervolume.

    The score of a candidate is known before it is trained. So its accuracy alone is forecast, from
    the trials so far, and what it is expected to add to the front is an integral in closed form
    (`expected_gains`).

    What it draws for a trial follows from the seed, the trial's number and the trials before it:
    a resumed study goes on as if it had never stopped.
    """

    def __init__(self, pool: Pool, objectives: Objectives, startup_trials: int) -> None:
        """Takes the pool to draw from, the goals, and how many trials are drawn at random."""
        self._pool, self._startup_trials = pool, startup_trials
        self._goals = objectives.accuracy.at_least, objectives.score.at_most
        self._limits_latency = objectives.latency is not None
        self._number, self._params = -1, Parameters()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, Any]:
        """Returns nothing: all choices of a trial are made when the first one is asked for."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]
    ) -> dict[str, Any]:
        """Returns nothing."""
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any
    ) -> Any:
        """Returns one of the choices that are made for the trial."""
        if self._number != trial.number:
            self._number, self._params = trial.number, self._choose(study, trial)
        return self._params[param_name]

    def _choose(self, study: optuna.Study, trial: FrozenTrial) -> Parameters:
        fixed = frozenset(trial.system_attrs.get("fixed_params", {}).items())
        others = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        history = _History.of(others, self._pool)
        is_startup = history.trained < self._startup_trials
        best = [] if is_startup else self._best(history)
        new = (
            offer
            for offer in self._pool.offers(trial.number, fixed, best)
            if offer.prospect.digest not in history.digests
        )
        offer = next(new, None) if is_startup else self._most_promising(list(new), history)
        return self._pool.random(trial.number, fixed) if offer is None else offer.params

    def _best(self, history: _History) -> list[Parameters]:
        """Returns the choices on the feasible front, or of the most accurate trials without one."""
        points = history.points
        least, most = self._goals
        is_inside = (points[:, 0] >= least) & (points[:, 1] <= most) & (history.slow <= 0)
        inside = np.flatnonzero(is_inside)
        leaders = inside[front(points[inside])] if len(inside) else points[:, 0].argsort()[-BEST:]
        return [history.complete[i].params for i in leaders]

    def _most_promising(self, offers: list[Offer], history: _History) -> Offer | None:
        if not offers:
            return None
        asked = [(*offer.features, FINAL) for offer in offers + history.running]
        known, accuracies = history.observed()
        means, deviations = forecast(known, accuracies, np.array(asked))
        new = len(offers)
        scores = np.array([offer.prospect.score for offer in offers + history.running])
        hoped = np.stack([means[new:], scores[new:]], axis=1)
        found = np.concatenate([history.points[history.slow <= 0], hoped])
        gains = expected_gains(means[:new], deviations[:new], scores[:new], found, self._goals)
        if self._limits_latency and history.complete:
            gains *= history.chances([offer.features for offer in offers])
        return offers[max(range(new), key=lambda i: (gains[i], means[i]))]


@dataclass
class _History:
    """What a study knows before a draw.

    Attributes:
        trained: How many trials were complete or stopped.
        digests: Of every candidate that was tried.
        complete: The trials that have ended.
        points: Their accuracies and measured scores, shape (N, 2).
        slow: How far they miss the goal for the latency, as a share of it; 0 without one.
        partial: Accuracies at rungs: the offer, the share of the first fit, the accuracy.
        running: The trials that have not ended.
    """

    trained: int = 0
    digests: set[str] = field(default_factory=set)
    complete: list[Offer] = field(default_factory=list)
    points: Points = field(default_factory=lambda: np.empty((0, 2)))
    slow: Floats = field(default_factory=lambda: np.empty(0))
    partial: list[tuple[Offer, float, float]] = field(default_factory=list)
    running: list[Offer] = field(default_factory=list)

    @classmethod
    def of(cls, trials: Iterable[FrozenTrial], pool: Pool) -> _History:
        history, points, slow = cls(), [], []
        for trial in trials:
            if (digest := trial.user_attrs.get(DIGEST)) is None or SCREENED in trial.user_attrs:
                continue
            history.digests.add(digest)
            history.trained += trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            if (offer := pool.find(trial.params)) is None:
                continue
            epochs = offer.prospect.candidate.training.epochs
            for rung, (accuracy, _) in trial.user_attrs.get(RUNGS, {}).items():
                history.partial.append((offer, int(rung) / epochs, accuracy))
            if trial.state == TrialState.COMPLETE:
                history.complete.append(offer)
                points.append(trial.values)
                slow.append(trial.system_attrs.get(_SLOW, 0.0))
            elif trial.state == TrialState.RUNNING:
                history.running.append(offer)
        history.points = np.array(points, dtype=float).reshape(-1, 2)
        history.slow = np.array(slow, dtype=float)
        return history

    def chances(self, features: list[tuple[float, ...]]) -> Floats:
        """Returns the probability that each candidate meets the goal for the latency.

        Gardner et al., 2014, weight the expected gain of a candidate with it. The logarithm of the
        latency is forecast from the complete trials.
        """
        from scipy.special import ndtr

        known = np.array([offer.features for offer in self.complete])
        means, deviations = forecast(known, np.log1p(self.slow), np.array(features))
        found: Floats = ndtr(-means / deviations)
        return found

    def observed(self) -> tuple[Points, Points]:
        """Returns the features, shape (N, F), and the accuracies, shape (N,), of all that is known.

        Complete trials and rungs are floored apart, because accuracies at rungs are lower.
        """
        rows = [(*offer.features, FINAL) for offer in self.complete]
        rows += [(*offer.features, share) for offer, share, _ in self.partial]
        partial = np.array([accuracy for *_, accuracy in self.partial], dtype=float)
        return np.array(rows), np.concatenate([floored(self.points[:, 0]), floored(partial)])
