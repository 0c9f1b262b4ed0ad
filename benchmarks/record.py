"""What brings a small network to a high accuracy: networks, stages and recipes, with and without.

    OMP_NUM_THREADS=1 python benchmarks/record.py FOLDER [--only TEXT] [--out record.csv]
    python benchmarks/record.py FOLDER --table [--out record.csv]

FOLDER holds CIFAR-10 as parquet files. Every row is one trial on one thread, judged on 5,000 of the
training images, which it does not see. Rows that the CSV file holds already are left as they are;
`--table` prints the tables of docs/techniques.md. `score` is `imt` with weights and inputs of 4
bits, 8 in the first and the last layer, and no zeros, whether the trial was quantized or not.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from techniques import append, done, run

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.score.rules import imt

VALIDATION = 5000
RESNET = {
    "family": "resnet",
    "stem": {"width": 16, "stride": 2},
    "widths": [16, 24, 32],
    "layers": 2,
}
AUGMENTATION = {"crop": 4, "flip": True}
SGD = {
    "epochs": 8,
    "optimizer": "sgd",
    "learning_rate": 0.2,
    "schedule": "one-cycle",
    "weight_decay": 1e-4,
    "augmentation": AUGMENTATION,
}
MUON = SGD | {"optimizer": "muon", "learning_rate": 0.1, "weight_decay": 0.05}
FOUR_BITS = {
    "weight_bits": 4,
    "activation_bits": 4,
    "first": {"weight_bits": 8},
    "last": {"weight_bits": 8, "activation_bits": 8},
}


class Row(NamedTuple):
    """A trial: its name, that of the row it is compared with, and what it evaluates."""

    name: str
    beside: str
    training: dict[str, Any] = SGD
    network: dict[str, Any] = RESNET
    images: int = 20_000
    others: Mapping[str, Any] = MappingProxyType({})


def rows() -> dict[str, Iterator[Row]]:
    """The rows of each table, each after the one that it is compared with."""
    return {"networks": _networks(), "stages": _stages(), "recipes": _recipes()}


def _networks() -> Iterator[Row]:
    yield Row("ResNet, 65,000 parameters", "")


def _stages() -> Iterator[Row]:
    base = "4 bits, a schedule for each stage"
    last = {"quantization": FOUR_BITS | {"epochs": 3, "learning_rate_factor": 0.3}}
    fit = MUON | {"epochs": 5}
    yield Row(base, "", fit, others=last)
    yield Row("4 bits, one schedule", base, fit | {"span": "trial"}, others=last)


def _recipes() -> Iterator[Row]:
    sgd = "SGD at 0.2"
    yield Row(sgd, "")
    yield Row(
        "SGD at 0.1, weight decay 5e-4", sgd, SGD | {"learning_rate": 0.1, "weight_decay": 5e-4}
    )
    for rate in (0.01, 0.03, 0.1, 0.2, 0.4):
        yield Row(f"Muon at {rate}", sgd, MUON | {"learning_rate": rate})
    for decay in (0.005, 0.2):
        yield Row(
            f"Muon at 0.1, weight decay {decay}", "Muon at 0.1", MUON | {"weight_decay": decay}
        )
    long = {"epochs": 30}
    yield Row("SGD, 30 epochs", "", SGD | long)
    yield Row("Muon, 30 epochs", "SGD, 30 epochs", MUON | long)
    changes: dict[str, dict[str, Any]] = {
        "mixup 0.2, off for 3 epochs": {
            "augmentation": AUGMENTATION | {"mixup": 0.2, "unmixed_epochs": 3}
        },
        "label smoothing 0.1": {"label_smoothing": 0.1},
        "averaged weights, 0.998 a step": {"ema": 0.998},
        "cosine": {"schedule": "cosine"},
    }
    for name, changed in changes.items():
        yield Row(f"Muon, 30 epochs, {name}", "Muon, 30 epochs", MUON | long | changed)
    every = {"images": 45_000}
    yield Row("SGD, 30 epochs, all images", "", SGD | long | {"weight_decay": 5e-4}, **every)
    yield Row("Muon, 30 epochs, all images", "SGD, 30 epochs, all images", MUON | long, **every)


def candidate(row: Row, found: Splits, **others: Any) -> Candidate:
    """The candidate of a row, for the images of a dataset."""
    images = {"input": found.input.model_dump(), "classes": found.classes}
    parts = {"network": row.network, "training": row.training, **row.others, **others}
    return Candidate.model_validate(images | parts)


def measure(row: Row, found: Splits, seed: int) -> dict[str, Any]:
    """Runs the trial of a row, and returns its figures."""
    begun = time.process_time()
    outcome = run(candidate(row, found), found, seed, None).outcome
    cost = build.predict(candidate(row, found, quantization=FOUR_BITS))
    return {
        "technique": row.name,
        "beside": row.beside,
        "seed": seed,
        "accuracy": outcome.accuracy,
        "score": round(imt(cost).score, 6),
        "parameters": cost.parameters,
        "macs": cost.macs,
        "seconds": round(time.process_time() - begun),
    }


def table(path: Path, wanted: Iterator[Row]) -> str:
    """The rows as Markdown, the means over seeds, with the differences to the row beside."""
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    lines = [
        "| | beside | accuracy | | score at 4 bits | parameters | MACs | time |",
        "|" + "---|" * 8,
    ]
    means: dict[str, dict[str, float]] = {}
    for row in wanted:
        own = [each for each in found if each["technique"] == row.name]
        if not own:
            continue
        numbers = ("accuracy", "score", "parameters", "macs", "seconds")
        mean = {name: sum(float(each[name]) for each in own) / len(own) for name in numbers}
        means[row.name] = mean
        cells = [row.name, row.beside, f"{mean['accuracy']:.1%}", "", f"{mean['score']:.5f}"]
        cells += [f"{mean['parameters']:,.0f}", f"{mean['macs'] / 1e6:.2f} M", ""]
        if (other := means.get(row.beside)) is not None:
            cells[3] = f"{100 * (mean['accuracy'] - other['accuracy']):+.1f}"
            cells[7] = f"x {mean['seconds'] / other['seconds']:.1f}"
        if len(own) > 1:
            cells[2] += f" ({len(own)} seeds)"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--out", type=Path, default=Path("record.csv"))
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    for name, wanted in rows().items():
        if given.table:
            print(f"{name}\n\n{table(given.out, wanted)}\n")
            continue
        for row in wanted:
            for seed in given.seeds:
                if given.only in row.name and (row.name, str(seed)) not in done(given.out):
                    limit = row.images + VALIDATION if row.images < 45_000 else None
                    dataset = Dataset(
                        name="parquet", root=given.folder, validation=VALIDATION, limit=limit
                    )
                    append(given.out, measure(row, splits.load(dataset), seed))


if __name__ == "__main__":
    main()
