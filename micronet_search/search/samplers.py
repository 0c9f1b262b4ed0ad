"""The Optuna samplers that draw candidates, and the seeds of their randomness."""

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from micronet_search.config.search import Nsga2, RandomSearch, Sampler, Tpe
from micronet_search.search.screening import SCREENED


def create(config: Sampler, seed: int) -> BaseSampler:
    """Creates the sampler of a sweep, with the seed from `start_seed`.

    The sampler reads constraints that were set by `Trial.set_constraint`. TPE uses those of
    COMPLETE and PRUNED trials, NSGA-II those of COMPLETE trials alone.
    """
    match config:
        case Tpe():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ExperimentalWarning)  # `group` is experimental
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

    Optuna's own random start would count screened draws too, and end before any accuracy is known.
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

    def sample_relative(self, study: optuna.Study, *rest: Any) -> dict[str, Any]:
        return {} if self._starts_up(study) else super().sample_relative(study, *rest)

    def sample_independent(self, study: optuna.Study, *rest: Any) -> Any:
        if self._starts_up(study):
            return self._startup_sampler.sample_independent(study, *rest)
        return super().sample_independent(study, *rest)

    def _starts_up(self, study: optuna.Study) -> bool:
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        trained = sum(SCREENED not in trial.user_attrs for trial in ended)
        return trained < self._startup_trials


class _Nsga2(NSGAIISampler):
    """NSGA-II whose population includes enqueued trials.

    Optuna sets a trial's generation while it samples, and it samples nothing for a trial that was
    enqueued with all of its parameters.
    """

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        super().before_trial(study, trial)
        self.get_trial_generation(study, trial)


def start_seed(seed: int, trials_so_far: int) -> int:
    """Returns the sampler's seed for one start of the driver, from 0 to 2^32 - 1.

    A sampler with the same seed would repeat its first draws after every resume. The number of
    trials, screened and running ones included, differs between the starts of a study.
    """
    return int(np.random.SeedSequence([seed, trials_so_far]).generate_state(1)[0])
