"""What a sampler does with screened draws: told of their score alone, or of both goals.

A toy in five dimensions whose best accuracy lies just below the ceiling of the score. With a goal
of 1.0 no trial is feasible, with 0.98 none is at first, with 0.9 many are. "Before" is Optuna's
TPE told of the score's violation alone, as the project had it until November 2026; "after" is the
project's own sampler, told that a screened draw misses its accuracy in full. A screened draw costs
nothing, so studies end after the same number of trained trials.

    OMP_NUM_THREADS=1 python benchmarks/screened.py
"""

from __future__ import annotations

import math
import warnings
from statistics import mean

import optuna
from optuna.samplers import BaseSampler, TPESampler
from optuna.trial import TrialState

from micronet_search.config.search import Tpe
from micronet_search.config.sweep import AccuracyGoal, Objectives, ScoreGoal
from micronet_search.search import samplers, screening

CEILING = 0.4
BEST = (0.1, 0.7, 0.2, 0.8, 0.1)
"""The choices with an accuracy of 1; their score, the mean, is 0.38."""
STARTUP, TRIALS, SEEDS = 10, 40, 20


def study(sampler: BaseSampler, at_least: float, *, both: bool) -> tuple[float, float, float]:
    """The share of screened draws, the best accuracy trained, and the share of feasible trials."""
    goals = Objectives(accuracy=AccuracyGoal(at_least=at_least), score=ScoreGoal(at_most=CEILING))
    found = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    reached: list[float] = []
    while len(reached) < TRIALS:
        trial = found.ask()
        choices = [trial.suggest_float(f"x{i}", 0.0, 1.0) for i in range(len(BEST))]
        accuracy, score = 1.0 - math.dist(choices, BEST) ** 2 / len(BEST), mean(choices)
        screened = score > CEILING
        told = screening.violations(0.0 if screened else accuracy, score, goals)
        for name, violation in told.items():
            if both or not screened or name == "score":
                trial.set_constraint(name, violation)
        if screened:
            trial.set_user_attr(screening.SCREENED, "above the ceiling")
            found.tell(trial, state=TrialState.PRUNED)
        else:
            reached.append(accuracy)
            found.tell(trial, [accuracy, score])
    feasible = mean(value >= at_least for value in reached)
    return 1.0 - TRIALS / len(found.trials), max(reached), feasible


def before(seed: int) -> BaseSampler:
    return TPESampler(
        n_startup_trials=STARTUP, multivariate=True, group=True, constant_liar=True, seed=seed
    )


def after(seed: int) -> BaseSampler:
    return samplers.optunas(Tpe(name="tpe", startup_trials=STARTUP), seed)


METHODS = {"before": (before, False), "after": (after, True)}


def means(name: str, at_least: float, seeds: int = SEEDS) -> tuple[float, float, float]:
    """What `study` returns, on average over the seeds."""
    create, both = METHODS[name]
    rows = [study(create(seed), at_least, both=both) for seed in range(seeds)]
    screened, best, feasible = (mean(column) for column in zip(*rows, strict=True))
    return screened, best, feasible


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore")
    print(f"{TRIALS} trained trials, {SEEDS} seeds")
    print("goal   method  screened  best accuracy  feasible")
    for at_least in (1.0, 0.98, 0.9):
        for name in METHODS:
            screened, best, feasible = means(name, at_least)
            print(f"{at_least:<6} {name:7} {screened:8.1%} {best:14.4f} {feasible:9.1%}")


if __name__ == "__main__":
    main()
