"""What a training step with fake quantizers costs, as a multiple of a plain one.

    python benchmarks/quantized_step.py [DEVICE]

Prints the ratio of the median times of both steps, measured in turn in the same run, and the time
of a prediction of the cost as a multiple of the plain step.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from micronet_search import build
from micronet_search.compression import quantize
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Quantization
from micronet_search.config.network import DenseNet, Stem
from micronet_search.config.training import Training

ROUNDS, BATCH = 15, 128


def main(device: str) -> None:
    candidate = Candidate(
        network=DenseNet(
            family="densenet",
            stem=Stem(width=24, stride=2),
            growth_rate=12,
            layers=(4, 4, 4),
            groups=(2, 3, 3),
            bottleneck=2,
        ),
        training=Training(epochs=1, learning_rate=1e-3),
        quantization=Quantization(weight_bits=4, activation_bits=4),
    )
    images = torch.randn(BATCH, 3, 32, 32, device=device)
    plain = build.network(candidate).to(device)
    quantized, _ = build.compressed(candidate)
    quantized.to(device).eval()
    quantize.calibrate(quantized, [images])
    times = rounds(
        {
            "plain": lambda: step(plain, images),
            "quantized": lambda: step(quantized, images),
            "predict": lambda: build.predict(candidate),
        }
    )
    for name in ("quantized", "predict"):
        print(f"{name}: {times[name] / times['plain']:.2f} times a plain step")


def step(network: nn.Module, images: torch.Tensor) -> None:
    network.train()
    network.zero_grad()
    network(images).square().mean().backward()
    if images.is_cuda:
        torch.cuda.synchronize()


def rounds(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median seconds of each, taken in turn."""
    found: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, run in work.items():
            begun = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begun)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


main(sys.argv[1] if len(sys.argv) > 1 else "cpu")
