"""How long commands take before they do anything, as multiples of what has to be imported.

    OMP_NUM_THREADS=1 python benchmarks/loading.py [--rounds N] [SWEEP]

Runs, in turn and each in a process of its own: the import of Torch, Optuna and MLflow; loading a
sweep as a user wrote it; loading it as a study stores it; `micronet-search check`; and
`micronet-search status` of a study that has just begun. Prints the least processor time and the
least wall time of each over all rounds, in seconds and as multiples of the import's.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from micronet_search.config.files import dump_yaml, load_sweep
from micronet_search.store.paths import Root

SWEEP = Path(__file__).parent.parent / "sweeps/cifar10-all.yaml"
LOAD = "from micronet_search.config.files import {0}; {0}({1!r})"


def commands(sweep: Path, root: Path) -> dict[str, list[str]]:
    """Returns the command lines by what they measure. Stores the sweep under the root."""
    loaded = load_sweep(sweep)
    stored = Root(root).study(loaded.name).sweep
    stored.parent.mkdir(parents=True)
    stored.write_text(dump_yaml(loaded.dump()))
    python, tool = [sys.executable, "-c"], [sys.executable, "-m", "micronet_search"]
    return {
        "import": [*python, "import torch, optuna, mlflow"],
        "load_sweep": [*python, LOAD.format("load_sweep", str(sweep))],
        "load_stored_sweep": [*python, LOAD.format("load_stored_sweep", str(stored))],
        "check": [*tool, "check", str(sweep)],
        "status": [*tool, "status", loaded.name, "--root", str(root)],
    }


def seconds(command: list[str]) -> tuple[float, float]:
    """Returns the processor time and the wall time of a command.

    Raises:
        CalledProcessError: It failed.
    """
    before, begun = os.times(), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall, after = time.perf_counter() - begun, os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system, wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep", nargs="?", type=Path, default=SWEEP, metavar="SWEEP")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        work = commands(given.sweep, Path(root))
        rounds = [{name: seconds(line) for name, line in work.items()} for _ in range(given.rounds)]
    least = {name: [min(r[name][i] for r in rounds) for i in (0, 1)] for name in work}
    print("| | processor, s | of the import | wall, s | of the import |")
    print("|---|---|---|---|---|")
    for name, (used, wall) in least.items():
        ratios = used / least["import"][0], wall / least["import"][1]
        print(f"| {name} | {used:.2f} | {ratios[0]:.2f} | {wall:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
