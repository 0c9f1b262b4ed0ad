"""What it brings to compress each trained network several times, on digits.

    OMP_NUM_THREADS=1 python benchmarks/compressions.py --root RUNS

Runs studies on the space of `tabular/digits.yaml` with the frontier sampler: each network is
compressed once, or several times, and all train as many epochs. The epochs of a fit count for the
trial that trained it. Prints, for each seed, the feasible hypervolume on the validation images
after some of these epochs, and its ratio to that of one compression.
"""

from __future__ import annotations

import argparse
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np

from micronet_search.config.files import load_sweep
from micronet_search.search.pareto import hypervolume
from micronet_search.store.outcome import Outcome, read_outcomes
from micronet_search.store.paths import Root
from micronet_search.study import opening
from micronet_search.study.survey import is_feasible, score_of

SWEEP = Path(__file__).parent / "tabular" / "digits.yaml"
COMPRESSIONS = (1, 4)
EPOCHS = (200, 400, 600)
FIT, ALL = 15, 21  # epochs of a trial of the sweep


def trained(outcome: Outcome) -> int:
    """Returns the epochs that a trial trained itself."""
    return len(outcome.curve) - (FIT if outcome.base is not None else 0)


def hypervolumes(root: Path, seed: int, compressions: int) -> list[float]:
    """Returns the feasible hypervolume of one study after each of `EPOCHS`."""
    group = ALL + (compressions - 1) * (ALL - FIT)
    trials = -(-EPOCHS[-1] // group) * compressions
    search = {
        "trials": trials,
        "seed": seed,
        "sampler": "frontier",
        "compressions_per_network": compressions,
    }
    name = f"compressions-{compressions}-{seed}"
    sweep = load_sweep(SWEEP).model_copy(update={"name": name})
    sweep = sweep.override(search=search, execution={"engine": "inline", "trials_per_device": 1})
    opening.run(sweep, Root(root), lambda *_: None)
    goals = sweep.objectives
    reference = goals.accuracy.at_least, goals.score.at_most
    epochs, points, found = 0, np.empty((0, 2)), [0.0] * len(EPOCHS)
    for outcome in sorted(
        read_outcomes(Root(root).study(name), "imt").values(), key=lambda o: o.ended
    ):
        epochs += trained(outcome)
        if is_feasible(outcome, goals):
            points = np.vstack([points, (outcome.accuracy, score_of(outcome, goals))])
        area = hypervolume(points, reference)
        found = [area if epochs <= at else before for at, before in zip(EPOCHS, found, strict=True)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="the folder of the studies")
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()
    jobs = [(seed, k) for seed in range(given.seeds) for k in COMPRESSIONS]
    with Pool(2) as pool:
        found = dict(
            zip(jobs, pool.starmap(partial(hypervolumes, given.root), jobs, 1), strict=True)
        )
    print(
        "| seed | " + " | ".join(f"{k} x, {e} epochs" for k in COMPRESSIONS for e in EPOCHS) + " |"
    )
    print("|---" * (1 + len(COMPRESSIONS) * len(EPOCHS)) + "|")
    for seed in range(given.seeds):
        cells = [f"{area * 1e6:.3g}" for k in COMPRESSIONS for area in found[seed, k]]
        print(f"| {seed} | " + " | ".join(cells) + " |")
    once, often = (np.mean([found[s, k] for s in range(given.seeds)], axis=0) for k in COMPRESSIONS)
    print("ratio of the means:", ", ".join(f"{r:.2f}" for r in often / once))


if __name__ == "__main__":
    main()
