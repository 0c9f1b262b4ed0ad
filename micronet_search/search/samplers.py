"""The samplers that draw candidates, and the seeds of their randomness."""

import warnings
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState

from micronet_search.config.search import Frontier, Nsga2, OptunaSampler, RandomSearch, Tpe
from micronet_search.config.sweep import Sweep
from micronet_search.search.frontier import FrontierSampler
from micronet_search.search.pool import Pool
from micronet_search.search.prospects import Prospects
from micronet_search.search.screening import SCREENED


def create(sweep: Sweep, prospects: Prospects) -> BaseSampler:
    """Creates the sampler of a sweep.

    What it draws for a trial follows from the sweep's seed, the trial's number and the trials
    before it, so that a resumed study goes on as if it had never stopped.
    """
    config, seed, goals = sweep.search.sampler, sweep.search.seed, sweep.objectives
    if isinstance(config, Frontier):
        pool = Pool(sweep.space, prospects, goals.score.at_most, seed, config.candidates)
        return FrontierSampler(pool, goals, config.startup_trials)
    return _ByNumber(config, seed)


def optunas(config: OptunaSampler, seed: int) -> BaseSampler:
    """Creates one of Optuna's samplers.

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


class _ByNumber(BaseSampler):
    """Draws each trial with a sampler of its own, whose seed follows from the trial's number.

    The state of a sampler's random numbers is kept nowhere: with one sampler for all trials, a
    resumed study would draw other candidates than one that was never stopped.
    """

    def __init__(self, config: OptunaSampler, seed: int) -> None:
        self._config, self._seed = config, seed
        self._sampler = optunas(config, seed)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self._sampler = optunas(self._config, trial_seed(self._seed, trial.number))
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> Any:
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, *given: Any) -> Any:
        return self._sampler.sample_relative(*given)

    def sample_independent(self, *given: Any) -> Any:
        return self._sampler.sample_independent(*given)

    def after_trial(self, *given: Any) -> None:
        self._sampler.after_trial(*given)


def trial_seed(seed: int, number: int) -> int:
    """Returns the sampler's seed for one trial, from 0 to 2^32 - 1."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
