"""Which Optuna sampler draws the candidates, and where its randomness comes from."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

from micronet_search.config.sweep import Nsga2, RandomSearch, Tpe


def create(config: Tpe | Nsga2 | RandomSearch, seed: int) -> BaseSampler:
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
                return TPESampler(
                    n_startup_trials=config.startup_trials,
                    n_ei_candidates=config.candidates,
                    multivariate=True,
                    group=True,
                    constant_liar=True,
                    seed=seed,
                )
        case Nsga2():
            return _Nsga2(
                population_size=config.population,
                mutation_prob=config.mutation,
                crossover_prob=config.crossover,
                seed=seed,
            )
        case RandomSearch():
            return RandomSampler(seed=seed)


class _Nsga2(NSGAIISampler):
    """NSGA-II in whose population enqueued trials count.

    Optuna gives a trial its generation when it samples for it, which it never does for a trial
    whose every parameter was enqueued.
    """

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
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
