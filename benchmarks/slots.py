"""Images per second of two slots with a thread each, against one slot with two threads.

    python benchmarks/slots.py [--rounds N] [--epochs N] [--parquet FOLDER]

The jobs are those of a study, in the tool's own engines: `ray` with two trials for each device, and
`inline`. Each job trains the same small DenseNet, and what counts is the time from the end of its
first epoch, so that neither the start of a process nor that of Ray does. The two take turns.
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

import torch
import yaml

from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset, Execution
from micronet_search.data.splits import Splits, load
from micronet_search.engine.choice import open_engine
from micronet_search.engine.work import Ended, Engine, Job, Reached, Trained
from micronet_search.store.outcome import Epoch

CANDIDATE: dict[str, Any] = yaml.safe_load("""
network: {family: densenet, stem: {width: 24}, growth_rate: 12, layers: [4, 4], bottleneck: 2}
training: {batch_size: 128, optimizer: sgd, learning_rate: 0.01,
  augmentation: {crop: 2, flip: true}}
""")


def rate(engine: Engine, jobs: list[Job], images: int) -> float:
    """Runs as many jobs as there are slots, and returns their images per second together.

    Each trains images in all epochs after its first one.
    """
    while engine.slots < len(jobs):
        engine.wait()
    for job in jobs:
        engine.start(job)
    rows: dict[int, list[Epoch]] = {job.number: [] for job in jobs}
    left = len(jobs)
    while left:
        if (heard := engine.wait()) is None:
            continue
        match heard:
            case number, Trained(row=row):
                rows[number].append(row)
            case number, Reached():
                engine.order(number, "go")
            case number, Ended():
                engine.release(number)
                left -= 1
            case _, lost:
                raise RuntimeError(f"a job did not end: {lost}")
    return sum(images * (len(r) - 1) / sum(row.seconds for row in r[1:]) for r in rows.values())


def measure(dataset: Dataset, splits: Splits, slots: int, epochs: int) -> float:
    """Opens an engine with one or two slots, and returns its images per second."""
    tree = CANDIDATE | {"training": CANDIDATE["training"] | {"epochs": epochs}}
    shape = dict(zip(("channels", "height", "width"), splits.train.images.shape[1:], strict=True))
    tree |= {"input": shape, "classes": splits.classes}
    asked = Candidate.model_validate(tree)
    execution = Execution(
        engine="inline" if slots == 1 else "ray", device="cpu", trials_per_device=slots
    )
    engine, _ = open_engine(splits, dataset, execution, lambda line: None)
    try:
        jobs = [Job(number, asked, seed=number, stops=()) for number in range(slots)]
        return rate(engine, jobs, len(splits.train))
    finally:
        engine.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--limit", type=int, default=5000, help="training images of the folder")
    parser.add_argument("--parquet", help="folder of a dataset of CIFAR-10's shape")
    given = parser.parse_args()
    datasets = {"digits": Dataset(name="digits")}
    if given.parquet is not None:
        datasets["parquet"] = Dataset(name="parquet", root=given.parquet, limit=given.limit)
    torch.set_num_threads(2)
    print("| dataset | one slot, two threads | two slots, one thread | ratio | of rounds |")
    print("|---|---|---|---|---|", flush=True)
    for name, dataset in datasets.items():
        splits = load(dataset)
        pairs = [
            [measure(dataset, splits, slots, given.epochs) for slots in (1, 2)]
            for _ in range(given.rounds)
        ]
        one, two = (median(pair[index] for pair in pairs) for index in (0, 1))
        ratios = sorted(pair[1] / pair[0] for pair in pairs)
        spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
        print(f"| {name} | {one:,.0f} | {two:,.0f} | {median(ratios):.2f} | {spread} |", flush=True)


if __name__ == "__main__":
    main()
