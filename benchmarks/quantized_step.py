"""What the memory layout and fake quantizers make of the time of an epoch.

    OMP_NUM_THREADS=1 python benchmarks/quantized_step.py [--rounds N] [NETWORK ...]

Trains three trials of each network on random images of CIFAR-10's shape, an epoch of each in turn:
one as trials are, one with contiguous images and weights, and one that is fine-tuned with weights
and inputs of 4 bits. Prints the processor time of the plain one, a batch of it, and as multiples of
it those of the other two and of a prediction of the cost. Each is the least of all rounds, on one
thread, so that a busy machine changes little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Images, Normalization, Splits
from micronet_search.trial.trial import Trial

BATCH, BATCHES, VALIDATION = 128, 4, 128
NETWORKS: dict[str, dict[str, Any]] = {
    "densenet": {
        "family": "densenet",
        "stem": {"width": 24, "stride": 2},
        "growth_rate": 12,
        "layers": [4, 4, 4],
        "groups": [2, 3, 3],
        "bottleneck": 2,
    },
    "resnet": {
        "family": "resnet",
        "stem": {"width": 16, "stride": 2},
        "widths": [16, 32, 64],
        "layers": 2,
    },
    "separable": {
        "family": "resnet",
        "stem": {"width": 32, "stride": 2},
        "widths": [32, 64, 128],
        "layers": 2,
        "convolution": "separable",
    },
    "efficientnet": {
        "family": "efficientnet",
        "stem": {"width": 16, "stride": 2},
        "widths": [16, 24, 40],
        "layers": 2,
        "expansions": 4,
        "squeeze": 0.25,
        "activation": "hard-swish",
    },
}


class Contiguous(Trial):
    """A trial whose images and weights are contiguous."""

    def _place(self, network: nn.Module) -> None:
        network.register_forward_pre_hook(lambda _, images: images[0].contiguous())


def noise(count: int) -> Images:
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 10)


def candidate(network: dict[str, Any], rounds: int, *, quantized: bool) -> Candidate:
    """One that trains an epoch to warm up, and then an epoch in each round and one before."""
    epochs = rounds + 1
    bits = {"weight_bits": 4, "activation_bits": 4, "epochs": epochs}
    training = {
        "epochs": 1 if quantized else 1 + epochs,
        "batch_size": BATCH,
        "learning_rate": 1e-3,
        "augmentation": {"crop": 4, "flip": True},
    }
    tree = {"network": network, "training": training, "quantization": bits if quantized else None}
    return Candidate.model_validate(tree)


def epochs(kind: type[Trial], asked: Candidate, data: Splits) -> Callable[[], None]:
    """Trains the next epoch of a trial at each call."""
    trial = kind(asked, data, seed=0, device=torch.device("cpu"))
    trial.begin()
    trial.advance(2)
    return lambda: trial.advance(trial.epoch + 1)


def least(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The least seconds of processor time of each, taken in turn."""
    found = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, run in work.items():
            begun = time.process_time()
            run()
            found[name] = min(found[name], time.process_time() - begun)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=15)
    given = parser.parse_args()
    torch.set_num_threads(1)
    validation = noise(VALIDATION)
    data = Splits(noise(BATCH * BATCHES), validation, validation, 10, Normalization(128, 0.0135))
    print("| network | plain, ms a batch | contiguous | quantized | prediction, batches |")
    print("|---|---|---|---|---|")
    for name in given.networks:
        plain, quantized = (
            candidate(NETWORKS[name], given.rounds, quantized=asked) for asked in (False, True)
        )
        work: dict[str, Callable[[], object]] = {
            "plain": epochs(Trial, plain, data),
            "contiguous": epochs(Contiguous, plain, data),
            "quantized": epochs(Trial, quantized, data),
            "prediction": lambda asked=quantized: build.predict(asked),
        }
        found = least(work, given.rounds)
        ratios = {key: seconds / found["plain"] for key, seconds in found.items()}
        print(
            f"| {name} | {1000 * found['plain'] / BATCHES:.1f} | {ratios['contiguous']:.2f} "
            f"| {ratios['quantized']:.2f} | {BATCHES * ratios['prediction']:.2f} |",
            flush=True,
        )


main()
