"""How long the prediction of a candidate's cost and score takes, for networks of about 40 layers.

    OMP_NUM_THREADS=1 python benchmarks/prediction.py

Prints milliseconds of processor time, medians over repetitions, and as a multiple of building the
network on torch's `meta` device and counting its multiplications there.
"""

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.network.precision import layers_of
from micronet_search.scoring.rules import imt

Trees = dict[str, dict[str, Any]]
NETWORKS: Trees = {
    "densenet": {"growth_rate": 12, "layers": [6, 6, 6]},
    "resnet": {"widths": [16, 32, 64], "layers": 6},
    "efficientnet": {"widths": [16, 24, 40], "layers": [3, 3, 2], "squeeze": 0.25, "expansions": 4},
}
CHANNELS = {"structured_pruning": {"ratio": 0.3}}
TECHNIQUES: Trees = {
    "no technique": {},
    "channels removed": CHANNELS,
    "all techniques": CHANNELS
    | {
        "factorization": {"kind": "svd", "ratio": 0.3},
        "pruning": {"sparsity": 0.5},
        "quantization": {"weight_bits": 4, "activation_bits": 8},
    },
}
ROUNDS = 40


def candidate(family: str, techniques: dict[str, Any]) -> Candidate:
    network = {"family": family, "stem": {"width": 16}} | NETWORKS[family]
    rest = {"training": {"epochs": 1, "learning_rate": 0.1}} | techniques
    return Candidate.model_validate({"network": network} | rest)


def milliseconds(do: Callable[[Candidate], object], asked: Candidate) -> float:
    times = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        do(asked)
        times.append(time.process_time() - begun)
    return 1000 * median(times)


def predict(asked: Candidate) -> float:
    return imt(build.predict(asked)).score


def on_meta(asked: Candidate) -> int:
    """The MACs of the plain network, which is built and run on the `meta` device."""
    found, image = list[int](), asked.input

    def note(layer: nn.Module, _: object, made: Tensor) -> None:
        found.append(made.numel() * layer.get_parameter("weight")[0].numel())

    with torch.device("meta"), torch.no_grad():
        network = build.network(asked).eval()
        for layer in layers_of(network).values():
            layer.register_forward_hook(note)
        network(torch.empty(1, image.channels, image.height, image.width))
    return sum(found)


def main() -> None:
    print("network       layers  techniques        predicted, ms  of building on meta")
    for family in NETWORKS:
        plain = candidate(family, {})
        assert on_meta(plain) == build.predict(plain).macs
        layers, built = len(build.planned(plain)[0].layers), milliseconds(on_meta, plain)
        for name, techniques in TECHNIQUES.items():
            found = milliseconds(predict, candidate(family, techniques))
            print(f"{family:13} {layers:6}  {name:17} {found:13.2f} {found / built:20.3f}")


if __name__ == "__main__":
    main()
