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
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from record_rows import FOUR_BITS, Row, rows
from techniques import CPU, append, done, run

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.scoring.rules import imt
from micronet_search.trial.views import Viewing

VALIDATION = 5000


def candidate(row: Row, found: Splits, **others: Any) -> Candidate:
    """The candidate of a row, for the images of a dataset."""
    images = {"input": found.input.model_dump(), "classes": found.classes}
    parts = {"network": row.network, "training": row.training, **row.others, **others}
    return Candidate.model_validate(images | parts)


def lesson(asked: Candidate, found: Splits) -> bytes | None:
    """What a student needs of the teacher, which is trained once."""
    if asked.distillation is None:
        return None
    model = taught(asked.teacher().model_dump_json(), found)
    if not asked.distillation.cached:
        return model
    viewing = Viewing(model, found, CPU)
    viewing.begin()
    viewing.advance(viewing.epochs)
    return viewing.finish().files["views.safetensors"]


@cache
def taught(candidate: str, found: Splits) -> bytes:
    """The model file of a teacher, given as JSON."""
    result = run(Candidate.model_validate_json(candidate), found, 0, None)
    return result.files["model.safetensors"]


def measure(row: Row, found: Splits, seed: int) -> dict[str, Any]:
    """Runs the trial of a row, and returns its figures."""
    asked = candidate(row, found)
    content = lesson(asked, found)
    begun = time.process_time()
    outcome = run(asked, found, seed, content).outcome
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


@cache
def images(folder: str, train: int) -> Splits:
    """CIFAR-10 with so many images to train on."""
    limit = train + VALIDATION if train < 45_000 else None
    dataset = Dataset(name="parquet", root=folder, validation=VALIDATION, limit=limit)
    return splits.load(dataset)


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
                    append(given.out, measure(row, images(given.folder, row.images), seed))


if __name__ == "__main__":
    main()
