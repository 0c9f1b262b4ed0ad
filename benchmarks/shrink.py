"""Writes a sweep for a machine without a GPU: fewer images, fewer epochs, another ceiling.

    python benchmarks/shrink.py SWEEP FOLDER > small.yaml

Draws are random. All other choices that the sweep searches stay what they are.
"""

from __future__ import annotations

import argparse
from typing import Any

from micronet_search.config.files import dump_yaml, load_sweep


def shrink(node: Any, fixed: dict[str, Any]) -> Any:
    """The tree with these values wherever their fields stand."""
    if not isinstance(node, dict):
        return node
    return {name: fixed.get(name, shrink(value, fixed)) for name, value in node.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sweep")
    parser.add_argument("folder", help="CIFAR-10 as parquet files")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--at-least", type=float, default=0.15)
    parser.add_argument("--at-most", type=float, default=0.005)
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
    tree["candidate"] = shrink(
        tree["candidate"], {"epochs": given.epochs, "batch_size": given.batch_size, "warmup": 0}
    )
    tree["search"] |= {"trials": given.trials, "hours": None, "early_stopping": "off"}
    tree["search"]["sampler"] = {"name": "random"}
    print(dump_yaml(tree), end="")


if __name__ == "__main__":
    main()
