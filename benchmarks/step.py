"""Images per second of training and evaluation, through the tool and through other loops.

    python benchmarks/step.py [--threads N] [--rounds N] [--device cuda] [NETWORK ...]

Each network trains on random images of CIFAR-10's shape, in batches of 128, by SGD, with crops and
flips, on as many threads as there are cores unless said. A round times each of these once, in turn:

* tool: an epoch of a trial as a slot runs it, without what follows its batches
* usual (a): torchvision's v2 transforms on PIL images, a DataLoader with two workers that persist
* bare (b): contiguous float images that are in memory already and are not augmented
* bare, last: (b) with channels last in memory, as the tool has them
* graphed, on a GPU: (bare, last) with its step replayed as a CUDA graph
* quantized: the tool's epoch with weights and inputs of 4 bits
* the rest of an epoch: the norms' statistics from 1,024 images
* judging: 10,000 images evaluated by the tool, by (b) in inference mode, by (b), channels last

Loops other than the tool's never wait for a loss. A ratio is the median of the rounds' ratios, so
that other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import torch
import yaml
from step_loops import Pictures, evaluation, graphed, loop, seconds
from torch import Tensor
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Images, Normalization, Splits
from micronet_search.training.fit import accuracy
from micronet_search.trial.trial import Trial

BATCH, NORMALIZATION = 128, Normalization(120, 0.016)
CIFAR_TRAINED, CIFAR_EVALUATED = 45_000, 5_000
NETWORKS: dict[str, Any] = yaml.safe_load("""
densenet: {family: densenet, stem: {width: 24, stride: 2}, growth_rate: 12, layers: [4, 4],
  groups: 2, bottleneck: 2}  # of sweeps/cifar10-cpu.yaml
densenet-32: {family: densenet, stem: {width: 24, stride: 1}, growth_rate: 12, layers: [4, 4, 4],
  groups: [2, 3, 3], bottleneck: 2, compression: 0.5}  # of sweeps/cifar10-densenet.yaml
separable: {family: resnet, stem: {width: 32, stride: 2}, widths: [32, 64, 128], layers: 2,
  convolution: separable}
""")
TRAINING: dict[str, Any] = yaml.safe_load("""
{batch_size: 128, optimizer: sgd, learning_rate: 0.01, weight_decay: 5.0e-4,
 augmentation: {crop: 4, flip: true}}
""")


def candidate(network: dict[str, Any], rounds: int, *, quantized: bool) -> Candidate:
    """One with two epochs to warm up and one for each round, all quantized but the first."""
    bits = {"weight_bits": 4, "activation_bits": 4, "epochs": rounds + 1}
    training = TRAINING | {"epochs": 1 if quantized else rounds + 2}
    tree = {"network": network, "training": training, "quantization": bits if quantized else None}
    return Candidate.model_validate(tree)


def noise(count: int) -> Images:
    pixels = torch.randint(256, (count, 3, 32, 32), dtype=torch.uint8)
    return Images(pixels, torch.arange(count) % 10)


def warm_trial(asked: Candidate, data: Splits, device: torch.device) -> tuple[Trial, Any]:
    """Returns a trial after two epochs, and what times the batches of its next one."""
    trial = Trial(asked, data, seed=0, device=device)
    trial.begin()
    trial.advance(2)
    fit, spent = trial._fit, []
    assert fit is not None
    train = fit.epoch

    def timed(batches: Iterable[Any], after_step: Callable[[], None]) -> float:
        losses: list[float] = []
        spent.append(seconds(device, lambda: losses.append(train(batches, after_step))))
        return losses[0]

    fit.epoch = timed  # type: ignore[method-assign]

    def next_epoch() -> float:
        trial.advance(trial.epoch + 1)
        return spent[-1]

    return trial, next_epoch


def contestants(
    tree: dict[str, Any], given: argparse.Namespace, device: torch.device
) -> dict[str, Callable[[], float]]:
    """Returns what times each once, after it has run before; all networks have the same shape."""
    data = Splits(noise(BATCH * given.batches), noise(1000), noise(1000), 10, NORMALIZATION)
    held = data.to(device)
    plain, quantized = (candidate(tree, given.rounds, quantized=asked) for asked in (False, True))
    trial, tool = warm_trial(plain, held, device)
    judged = Splits(data.train, noise(given.evaluated), data.test, 10, NORMALIZATION).to(device)
    feed = Trial(plain, judged, seed=0, device=device).feed
    images, labels = NORMALIZATION(held.train.images.float()), held.train.labels
    seen = NORMALIZATION(judged.validation.images.float())
    last = torch.channels_last
    here, there, replayed = (build.network(plain, 0).to(device) for _ in range(3))
    there, seen_last = there.to(memory_format=last), seen.contiguous(memory_format=last)
    images_last, right = images.contiguous(memory_format=last), judged.validation.labels
    loader = DataLoader(
        Pictures(data.train, NORMALIZATION),
        BATCH,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        pin_memory=device.type == "cuda",
    )

    def shuffled(images: Tensor) -> Any:
        order = torch.randperm(len(images), device=device).split(BATCH)
        return ((images[rows], labels[rows]) for rows in order)

    as_graph = {}
    if device.type == "cuda":
        replayed = replayed.to(memory_format=last)
        as_graph["graphed"] = graphed(replayed, device, lambda: shuffled(images_last))

    def timed(run: Callable[[], object]) -> Callable[[], float]:
        return lambda: seconds(device, run)

    return {
        "tool": tool,
        "usual": loop(build.network(plain, 0).to(device), device, lambda: loader),
        "bare": loop(here, device, lambda: shuffled(images)),
        "last": loop(there, device, lambda: shuffled(images_last)),
        **as_graph,
        "quantized": warm_trial(quantized, held, device)[1],
        "norms": timed(lambda: update_bn(trial.feed.calibration(), trial.network)),
        "judging": timed(lambda: accuracy(trial.network, feed.validation())),
        "judging bare": timed(lambda: evaluation(here, seen, right)),
        "judging last": timed(lambda: evaluation(there, seen_last, right)),
    }


GOALS: dict[str, tuple[str, str, float, str]] = {
    "tool to usual (a)": ("usual", "tool", 1.5, "at least"),
    "tool to bare (b)": ("bare", "tool", 0.9, "at least"),
    "tool to bare, channels last": ("last", "tool", 0.9, "no goal"),
    "CUDA graph to bare, channels last": ("last", "graphed", 1.0, "no goal"),
    "quantized step to plain one": ("quantized", "tool", 1.35, "at most"),
    "evaluation, tool to bare (b)": ("judging bare", "judging", 1.0, "at least"),
    "evaluation, tool to bare, channels last": ("judging last", "judging", 1.0, "no goal"),
}
"""What is divided: the speed of a tool is the seconds of another over its own."""


def report(name: str, rounds: list[dict[str, float]], images: int, evaluated: int) -> None:
    """Prints images per second, ratios beside their goals, and what fills an epoch."""
    middle = {key: median(each[key] for each in rounds) for key in rounds[0]}
    print(f"\n{name}\n\n| | images a second |\n|---|---|")
    for key, spent in middle.items():
        count = {"norms": 1024}.get(key, evaluated if key.startswith("judging") else images)
        print(f"| {key} | {count / spent:,.0f} |")
    print("\n| ratio | median | least | greatest | goal |\n|---|---|---|---|---|")
    for what, (above, below, goal, kind) in GOALS.items():
        if not {above, below} <= rounds[0].keys():
            continue
        ratios = sorted(each[above] / each[below] for each in rounds)
        wanted = kind if kind == "no goal" else f"{kind} {goal}"
        print(f"| {what} | {median(ratios):.2f} | {ratios[0]:.2f} | {ratios[-1]:.2f} | {wanted} |")
    steps = middle["tool"] / images * CIFAR_TRAINED
    judging = middle["judging"] / evaluated * CIFAR_EVALUATED
    whole = steps + middle["norms"] + judging
    print(
        f"\nOf an epoch of {CIFAR_TRAINED:,} images, {CIFAR_EVALUATED:,} of validation: "
        f"steps {steps / whole:.1%}, norms {middle['norms'] / whole:.1%}, "
        f"validation {judging / whole:.1%}.",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", type=int, default=20, help="of training, in an epoch")
    parser.add_argument("--evaluated", type=int, default=10_000, help="images; a multiple of 1,000")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    print(f"{given.threads} threads, device {given.device}, batches of {BATCH}")
    for name in given.networks:
        work = contestants(NETWORKS[name], given, torch.device(given.device))
        for key in work.keys() - {"tool", "quantized"}:
            work[key]()  # warms up
        rounds = [{key: run() for key, run in work.items()} for _ in range(given.rounds)]
        report(name, rounds, BATCH * given.batches, given.evaluated)


if __name__ == "__main__":
    main()
