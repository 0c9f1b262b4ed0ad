"""The processor time of a draw by the frontier sampler, beside Optuna's TPE.

    OMP_NUM_THREADS=1 python benchmarks/draws.py

Draws from the space of a sweep; trials end at once with an accuracy that grows with the number of
weights. Prints the median of the ten draws that end at each number of trials.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from statistics import median

import optuna

from micronet_search.config.files import load_sweep
from micronet_search.search import samplers, space
from micronet_search.search.prospects import Prospects
from micronet_search.search.screening import DIGEST, violations

SWEEP = Path(__file__).parents[1] / "sweeps" / "cifar10-densenet.yaml"
AT = (20, 100, 250, 500)


def seconds(sampler: str) -> list[float]:
    """Returns the seconds of each draw."""
    sweep = load_sweep(SWEEP).override(search={"sampler": sampler})
    prospects, rng = Prospects(sweep), random.Random(0)
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler, found = samplers.create(sweep, prospects), list[float]()
    for _ in range(AT[-1]):
        begun = time.process_time()
        trial = study.ask()
        tree = space.suggest(trial, sweep.space)
        found.append(time.process_time() - begun)
        prospect = prospects.of(tree)
        accuracy = min(1.0, 0.5 + prospect.features[1] / 14 + rng.gauss(0.0, 0.01))
        trial.set_user_attr(DIGEST, prospect.digest)
        for name, missed in violations(accuracy, prospect.score, sweep.objectives).items():
            trial.set_constraint(name, missed)
        study.tell(trial, [accuracy, prospect.score])
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    print("| seconds of a draw | " + " | ".join(f"{n} trials" for n in AT) + " | longest |")
    print("|---" * (len(AT) + 2) + "|")
    for sampler in ("frontier", "tpe"):
        found = seconds(sampler)
        cells = [f"{median(found[n - 10 : n]):.3f}" for n in AT] + [f"{max(found):.1f}"]
        print(f"| {sampler} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
