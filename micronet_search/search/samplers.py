"""Which Optuna sampler draws the candidates, and where its randomness comes from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from micronet_search.config.search import Nsga2, RandomSearch, Sampler, Tpe
from micronet_search.search.screening import SCREENED


def create(config: Sampler, seed: int) -> BaseSampler:
    """The sampler that a sweep asks for.

    Constraints reach it through `Trial.set_constraint`: TPE goes by those of complete and of
    PRUNED trials, NSGA-II by those of complete ones, as PRUNED ones are no part of a population.

    Args:
        config: The sweep's `search.sampler`.
        seed: From `start_seed`.
    """
    match config:
        case Tpe():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # `group` is experimental.
                return _Tpe(config, seed)
        case Nsga2():
            return _Nsga2(
                population_size=config.population,
                mutation_prob=config.mutation,
                crossover_prob=config.crossover,
                seed=seed,
            )
        case RandomSearch():
            return RandomSampler(seed=seed)


class _Tpe(TPESampler):
    """TPE that draws at random until enough trials were trained.

    Optuna counts screened draws as well, and would go by them before any accuracy is known.
    """

    def __init__(self, config: Tpe, seed: int) -> None:
        super().__init__(
            n_startup_trials=0,
            n_ei_candidates=config.candidates,
            multivariate=True,
            group=True,
            constant_liar=True,
            seed=seed,
        )
        self._startup_trials = config.startup_trials
        self._startup_sampler = RandomSampler(seed=seed)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        if self._starts_up(study):
            return {}
        return super().sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if self._starts_up(study):
            return self._startup_sampler.sample_independent(
                study, trial, param_name, param_distribution
            )
        return super().sample_independent(study, trial, param_name, param_distribution)

    def _starts_up(self, study: optuna.Study) -> bool:
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        trained = sum(SCREENED not in trial.user_attrs for trial in ended)
        return trained < self._startup_trials


class _Nsga2(NSGAIISampler):
    """NSGA-II in whose population enqueued trials count.

    Optuna gives a trial its generation when it samples for it, which it never does for a trial
    whose every parameter was enqueued.
    """

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)


def start_seed(seed: int, trials_so_far: int) -> int:
    """The sampler's seed for one start of the driver.

    A sampler begins at its seed whatever the study holds already, so a resumed study would draw
    again what it drew first; the trials there, screened and running ones too, tell starts apart.

    Args:
        seed: The sweep's `search.seed`.
        trials_so_far: How many trials the Optuna study holds, `len(study.trials)`.

    Returns:
        A seed from 0 to 2^32 - 1.
    """
    return int(np.random.SeedSequence([seed, trials_so_far]).generate_state(1)[0])
