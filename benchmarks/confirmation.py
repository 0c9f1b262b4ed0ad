"""How often `export --best` ships a model that misses its goal on the test split.

    OMP_NUM_THREADS=1 python benchmarks/confirmation.py --root RUNS [--studies 20]

Studies of a sweep, each with a seed of its own: what they ship as they are, and after `confirm`
with its defaults. Their trials are trained for real. Each study adds a row to
`results/confirmation.csv` when it is confirmed, and one that has its row is not run again. A model
misses the goal if its accuracy on the test split, which decides nothing in a search, is below it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from micronet_search.config.files import load_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.confirm import BATCH, confirm
from micronet_search.data import splits
from micronet_search.data.splits import Images
from micronet_search.report.view import read
from micronet_search.shipped import load
from micronet_search.store.paths import Root
from micronet_search.study import opening
from micronet_search.training.fit import accuracy

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "confirmation.csv"
TOP, SEEDS = 5, 3


def study(sweep: Sweep, root: Root, test: Images) -> dict[str, Any]:
    """Runs and confirms one study, and returns what it ships before and after."""
    opening.run(sweep, root, lambda progress, line: None)
    row: dict[str, Any] = {"seed": sweep.search.seed, "goal": sweep.objectives.accuracy.at_least}
    row |= shipped(sweep.name, root, test, "before")
    confirm(root, sweep, lambda progress, line: None, top=TOP, seeds=SEEDS, full_train=False)
    return row | shipped(sweep.name, root, test, "after")


def shipped(name: str, root: Root, test: Images, when: str) -> dict[str, Any]:
    """Returns the model that `export --best` ships: its trial, its score and its test accuracy."""
    view = read(root, name)
    confirmed = view.confirmed()
    found = (confirmed or [view.row(number) for number in view.survey.front])[:1]
    row: dict[str, Any] = {f"confirmed {when}": len(confirmed), f"trial {when}": None}
    for best in found:
        network = load(view.shipped(best["trial"]).path)
        parts = zip(test.images.split(BATCH), test.labels.split(BATCH), strict=True)
        row |= {f"trial {when}": best["trial"], f"score {when}": best["score"]}
        row[f"test accuracy {when}"] = accuracy(network, parts)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="where the studies are kept")
    parser.add_argument("--sweep", type=Path, default=HERE.parent / "sweeps" / "quickstart.yaml")
    parser.add_argument("--studies", type=int, default=20)
    given = parser.parse_args()
    loaded = load_sweep(given.sweep)
    test = splits.load(loaded.dataset).test
    rows = pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []
    for seed in range(given.studies):
        if any(row["seed"] == seed for row in rows):
            continue
        sweep = loaded.override(
            search={"seed": seed}, execution={"engine": "inline", "trials_per_device": 1}
        )
        sweep = sweep.model_copy(update={"name": f"{loaded.name}-{seed}"})
        rows.append(study(sweep, Root(given.root), test))
        print(rows[-1], flush=True)
        pd.DataFrame(rows).to_csv(RESULTS, index=False, lineterminator="\n")
    table = pd.DataFrame(rows)
    for when in ("before", "after"):
        found = table[table[f"test accuracy {when}"].notna()]
        missed = (found[f"test accuracy {when}"] < found["goal"]).sum()
        print(f"{when}: {missed} of {len(found)} models miss the goal on the test split")
    print(f"studies with a confirmed candidate: {(table['confirmed after'] > 0).sum()}")


if __name__ == "__main__":
    main()
