"""Where the time of a study's trials went, stage by stage.

    python benchmarks/stages.py STUDY --root mlruns

Prints for each stage its share of the seconds of all complete trials, the epochs that it trained,
and the seconds of such an epoch.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from micronet_search.store.outcome import read_outcomes
from micronet_search.store.paths import Root


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--root", type=Path, default=Path("mlruns"))
    given = parser.parse_args()
    outcomes = read_outcomes(Root(given.root).study(given.study), "imt")
    complete = [outcome for outcome in outcomes.values() if outcome.state == "complete"]
    seconds, epochs = Counter[str](), Counter[str]()
    for outcome in complete:
        seconds.update(outcome.seconds)
        epochs.update(row.stage for row in outcome.curve if row.stage in outcome.seconds)
    print(f"{len(complete)} complete trials, {seconds.total() / len(complete):.1f} s each\n")
    print("| stage | share | epochs a trial | seconds an epoch |\n|---|---|---|---|")
    for stage, spent in seconds.items():
        each = f"{spent / epochs[stage]:.2f}" if epochs[stage] else ""
        share, trained = spent / seconds.total(), epochs[stage] / len(complete)
        print(f"| {stage} | {share:.1%} | {trained:.1f} | {each} |")


if __name__ == "__main__":
    main()
