"""What a trial costs the driver beside its training.

    OMP_NUM_THREADS=1 python benchmarks/overhead.py [--trials N] [--sampler NAME]

Runs a study whose slots train nothing: each answers a job at once with 20 epochs and the files of a
small network. All else is a study's own: draws with 8 choices, Optuna's journal, the files of each
trial, MLflow's SQLite store with metrics, params, tags and artifacts, the front and its picture.

Prints, as a Markdown table, the processor seconds of the driver's process a trial and its memory,
around some trials. `overhead_peers.py` measures the same of two other tools.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from micronet_search.config.sweep import Sweep
from micronet_search.engine.work import Ended, Event, Job, Order, Trained
from micronet_search.store.outcome import Epoch, Outcome, Result
from micronet_search.store.paths import Root
from micronet_search.study import opening

EPOCHS = 20
AROUND = (10, 50, 100, 500, 1000, 2000)
LAYERS = b"name,parameters,nonzeros,macs\n" + b"block.layer.weight,4608,2304,294912\n" * 24
FILES = {
    "layers.csv": LAYERS,
    "model.safetensors": os.urandom(60_000),
    "fitted.safetensors": os.urandom(260_000),
}
CHOICES: dict[str, Any] = {
    "network.stem.width": [8, 12, 16],
    "network.growth_rate": [4, 8, 12],
    "network.groups": [1, 2],
    "training.learning_rate": (3e-3, 2e-2),
    "training.weight_decay": (1e-6, 1e-3),
    "training.label_smoothing": [0.0, 0.05, 0.1],
    "quantization.weight_bits": [2, 3, 4, 8],
    "quantization.activation_bits": [3, 4, 8],
}


class Meter:
    """Notes the processor time and the memory of this process at the start of each trial."""

    def __init__(self) -> None:
        self._marks: list[tuple[float, float]] = []

    def mark(self) -> None:
        """Notes that another trial starts."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        used = sum(os.times()[:4])  # of this process and of the children that it has waited for
        self._marks.append((used, pages * os.sysconf("SC_PAGE_SIZE") / 2**20))

    def table(self) -> str:
        """Returns a row for each place that was reached, as Markdown."""
        lines = ["| around trial | processor seconds a trial | memory, MiB |", "|---|---|---|"]
        for place in AROUND:
            half = min(place // 2, 50)
            last = min(place + half, len(self._marks) - 1)
            if last >= place:
                first = place - half
                used = self._marks[last][0] - self._marks[first][0]
                memory = self._marks[place][1]
                lines.append(f"| {place:,} | {used / (last - first):.3f} | {memory:.0f} |")
        return "\n".join(lines)


def finished(number: int, choices: dict[str, Any]) -> Result:
    """Returns the result of a trial that trained nothing; its figures follow from its choices."""
    rate, bits = choices["training.learning_rate"], choices["quantization.weight_bits"]
    width = choices["network.growth_rate"] * choices["network.stem.width"]
    score = bits * width / 1e5 + number % 97 / 1e6
    best = min(0.99, 0.9 + 0.01 * bits * rate**0.5 + width / 4000 - number % 89 / 2000)
    curve = tuple(
        Epoch(epoch, "fit", 2 / epoch, best * (1 - 0.5 / epoch), 0.1, time.time())
        for epoch in range(1, EPOCHS + 1)
    )
    parts = {"parameters": score / 2, "operations": score / 2, "score": score}
    outcome = Outcome(
        state="complete",
        started=time.time(),
        ended=time.time(),
        device="cpu",
        accuracy=best,
        scores={"imt": parts, "micronet2019": parts},
        parameters=1000 * width,
        nonzeros=500 * width,
        macs=10**5 * width,
        storage_bits=4000 * width,
        seconds={"fit": 2.0, "quantize": 1.0},
        curve=curve,
    )
    rows = [",".join(map(str, vars(row).values())) for row in curve]
    table = "\n".join(["epoch,stage,loss,accuracy,seconds,ended", *rows, ""])
    return Result(outcome, {**FILES, "curve.csv": table.encode()})


class Idle:
    """An engine that trains nothing: its two slots answer at once."""

    slots = 2

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._events: deque[tuple[int, Event]] = deque()

    def start(self, job: Job) -> None:
        """Has a job say all of its epochs, and that it has ended."""
        self._meter.mark()
        tree = job.candidate.model_dump()
        network, quantization = tree["network"], tree["quantization"]
        choices = {
            "network.growth_rate": network["growth_rate"],
            "network.stem.width": network["stem"]["width"],
            "training.learning_rate": tree["training"]["learning_rate"],
            "quantization.weight_bits": quantization["weight_bits"],
        }
        result = finished(job.number, choices)
        self._events += [(job.number, Trained(row, EPOCHS)) for row in result.outcome.curve]
        self._events.append((job.number, Ended(result)))

    def wait(self) -> tuple[int, Event] | None:
        """Returns the next event."""
        return self._events.popleft()

    def order(self, number: int, order: Order) -> None:
        """Is never called: no job waits for an order."""
        raise AssertionError(number, order)

    def pause(self) -> None:
        """Has nothing to pause."""

    def release(self, number: int) -> None:
        """Has nothing to free."""

    def close(self) -> None:
        """Has nothing to end."""


def sweep(trials: int, sampler: str) -> Sweep:
    """Returns a sweep with the choices."""
    tree: dict[str, Any] = {
        "network": {"family": "densenet", "layers": [2, 2], "bottleneck": 2},
        "training": {"epochs": 15, "batch_size": 64, "optimizer": "adam"},
        "quantization": {"epochs": 5},
    }
    for path, values in CHOICES.items():
        *above, last = path.split(".")
        node = tree
        for key in above:
            node = node.setdefault(key, {})
        bounds = isinstance(values, tuple)
        node[last] = (
            {"low": values[0], "high": values[1], "log": True} if bounds else {"choices": values}
        )
    return Sweep.model_validate(
        {
            "name": "overhead",
            "dataset": {"name": "digits", "validation": 300},
            "objectives": {"accuracy": {"at_least": 0.9}, "score": {"at_most": 1.0}},
            "candidate": tree,
            "search": {"trials": trials, "sampler": {"name": sampler}},
        }
    )


def run_study(folder: Path, trials: int, sampler: str, meter: Meter) -> None:
    """Runs a study of this tool's."""
    with mock.patch.object(opening, "open_engine", return_value=(Idle(meter), "cpu")):
        opening.run(sweep(trials, sampler), Root(folder), lambda *_: None)


def measure(run: Callable[[Path, int, str, Meter], None], trials: int, sampler: str) -> None:
    """Runs trials in a folder of their own, and prints what they cost."""
    meter = Meter()
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), trials, sampler, meter)
    print(meter.table())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=2050)
    parser.add_argument("--sampler", choices=("random", "tpe"), default="random")
    options = parser.parse_args()
    measure(run_study, options.trials, options.sampler)


if __name__ == "__main__":
    main()
