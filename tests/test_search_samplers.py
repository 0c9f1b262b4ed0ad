import math
import warnings
from collections.abc import Iterator
from itertools import combinations
from statistics import mean

import optuna
import pytest
from optuna.trial import TrialState

from micronet_search.config.search import Nsga2, RandomSearch, Tpe
from micronet_search.search.samplers import optunas, trial_seed

Config = Tpe | Nsga2 | RandomSearch
TPE = Tpe(name="tpe")
NSGA2 = Nsga2(name="nsga2", population=8)
RANDOM = RandomSearch(name="random")
EVERY = pytest.mark.parametrize("config", [TPE, NSGA2, RANDOM], ids=lambda config: config.name)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Warnings are errors: the samplers that ship give none."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def create_study(config: Config, seed: int) -> optuna.Study:
    return optuna.create_study(directions=["maximize", "minimize"], sampler=optunas(config, seed))


def run(study: optuna.Study, trials: int) -> list[float]:
    """A toy: x + y is the accuracy and x * y the score, told PRUNED where it is above 0.1."""
    drawn = []
    for _ in range(trials):
        trial = study.ask()
        x, y = trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)
        if trial.suggest_categorical("branch.one_of", ["some", "none"]) == "some":
            trial.suggest_int("branch.some.z", 0, 3)
        drawn.append(x)
        trial.set_constraint("score", (x * y - 0.1) / 0.1)
        if x * y > 0.1:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            trial.set_constraint("accuracy", 0.0)
            study.tell(trial, [x + y, x * y])
    return drawn


@EVERY
def test_one_seed_draws_the_same(config: Config) -> None:
    first, again, other = (run(create_study(config, seed), 40) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_seeds_of_trials_differ() -> None:
    seeds = {trial_seed(seed, number) for seed in range(20) for number in range(20)}
    assert len(seeds) == 400
    assert trial_seed(0, 0) == trial_seed(0, 0)
    assert all(0 <= seed < 2**32 for seed in seeds)


def screened(config: Config) -> float:
    """The share of draws that miss the constraint, after the first forty."""
    states = []
    for seed in range(3):
        study = create_study(config, seed)
        run(study, 100)
        states += [trial.state for trial in study.trials[40:]]
    return mean(state == TrialState.PRUNED for state in states)


@pytest.mark.parametrize("config", [TPE, NSGA2], ids=lambda config: config.name)
def test_infeasible_regions_are_avoided(config: Config) -> None:
    assert screened(RANDOM) > 0.6
    assert screened(config) < 0.45


def test_tpe_goes_by_the_violations_of_pruned_trials_alone() -> None:
    study = create_study(TPE, 0)
    drawn = []
    for _ in range(60):
        trial = study.ask()
        drawn.append(trial.suggest_float("x", 0.0, 1.0))
        trial.set_constraint("score", 0.1 + drawn[-1])
        study.tell(trial, state=TrialState.PRUNED)
    assert mean(drawn[30:]) < 0.15


def test_tpe_keeps_away_from_what_is_running() -> None:
    """With several slots the next draw is to be another one than those that are not told yet."""

    def distance(seed: int, *, is_known: bool) -> float:
        study = create_study(TPE, seed)
        run(study, 30)
        drawn = []
        for _ in range(4):
            trial = study.ask()
            drawn.append((trial.suggest_float("x", 0.0, 1.0), trial.suggest_float("y", 0.0, 1.0)))
            if not is_known:
                study.tell(trial, state=TrialState.FAIL)
        return min(math.dist(a, b) for a, b in combinations(drawn, 2))

    known, unknown = (
        mean(distance(seed, is_known=is_known) for seed in range(12)) for is_known in (True, False)
    )
    assert known > 1.1 * unknown, (known, unknown)


def test_an_enqueued_trial_is_part_of_the_population() -> None:
    study = create_study(NSGA2, 0)
    study.enqueue_trial({"x": 0.25, "y": 0.0, "branch.one_of": "none"})
    run(study, 40)
    parents = study.trials[0].system_attrs
    assert [value for key, value in parents.items() if key.endswith(":generation")] == [0]


def test_options_reach_the_samplers() -> None:
    study = create_study(Tpe(name="tpe", startup_trials=1_000), 0)
    assert run(study, 30) == run(create_study(Tpe(name="tpe", startup_trials=999), 0), 30)
    genetic = optunas(Nsga2(name="nsga2", population=5, mutation=0.5, crossover=0.1), 0)
    assert isinstance(genetic, optuna.samplers.NSGAIISampler)
    assert genetic.population_size == 5
