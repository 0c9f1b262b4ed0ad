"""Writes a sweep for a machine without a GPU: fewer images, fewer epochs, another ceiling.

    python benchmarks/shrink.py SWEEP FOLDER --images 2000 --epochs 2 --at-most 0.02 > small.yaml

The choices that the sweep searches stay what they are.
"""

from __future__ import annotations

import argparse
from typing import Any

from micronet_search.config.files import dump_yaml, load_sweep


def shrink(node: Any, epochs: int) -> Any:
    """The tree with every number of epochs at most `epochs`, warm-up aside, which goes."""
    if not isinstance(node, dict):
        return node
    found = {name: shrink(value, epochs) for name, value in node.items()}
    if isinstance(found.get("epochs"), int):
        found["epochs"] = min(epochs, found["epochs"])
    return found | ({"warmup": 0} if "warmup" in found else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep")
    parser.add_argument("folder", help="CIFAR-10 as parquet files")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--at-least", type=float, default=0.15)
    parser.add_argument("--at-most", type=float, default=0.02)
    given = parser.parse_args()
    tree = load_sweep(given.sweep).dump()
    tree["name"] += "-small"
    tree["dataset"] = {
        "name": "parquet",
        "root": given.folder,
        "validation": 500,
        "limit": given.images,
    }
    tree["objectives"]["accuracy"]["at_least"] = given.at_least
    tree["objectives"]["score"]["at_most"] = given.at_most
    tree["candidate"] = shrink(tree["candidate"], given.epochs)
    tree["search"] |= {"trials": given.trials, "hours": None, "early_stopping": "off"}
    tree["search"]["sampler"] = {"name": "random"}
    print(dump_yaml(tree), end="")


if __name__ == "__main__":
    main()
