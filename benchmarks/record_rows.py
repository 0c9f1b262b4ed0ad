"""The rows of record.py: which networks, stages, teachers and recipes are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

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


TEACHER = {
    "network": RESNET | {"stem": {"width": 32, "stride": 2}, "widths": [32, 48, 64]},
    "training": SGD | {"epochs": 16},
}


CHAIN = "chain of separable layers"


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
    return {
        "networks": _networks(),
        "stages": _stages(),
        "taught": _taught(),
        "recipes": _recipes(),
    }


def _networks() -> Iterator[Row]:
    large, small = "ResNet at a score of 0.0035", "ResNet at a score of 0.0020"
    separable = RESNET | {"convolution": "separable"}
    chain = {"family": "efficientnet", "stem": RESNET["stem"], "expansions": 1, "layers": 3}
    chain |= {"widths": [39, 59, 78], "strides": [1, 2, 2]}
    between = {  # and the widths with which the score is the same
        "norm-activation": [30, 44, 59],
        "norm": [30, 44, 59],
        "activation": [30, 45, 60],
        "nothing": [30, 45, 60],
    }
    yield Row(large, "")
    yield Row(small, "", network=RESNET | {"widths": [12, 17, 23]})
    for inside, widths in between.items():
        network = separable | {"widths": widths, "between": inside}
        yield Row(f"separable, {inside} between", small, network=network)
    yield Row(f"{CHAIN}, nothing between", small, network=chain | {"between": "nothing"})
    yield Row(f"{large}, Muon", "", MUON)
    small_with_muon = f"{small}, Muon"
    yield Row(small_with_muon, "", MUON, RESNET | {"widths": [12, 17, 23]})
    for inside in ("norm-activation", "norm"):
        network = separable | {"widths": between[inside], "between": inside}
        yield Row(f"separable, {inside} between, Muon", small_with_muon, MUON, network)
    for inside in between:
        name = f"{CHAIN}, {inside} between, Muon"
        yield Row(name, small_with_muon, MUON, chain | {"between": inside})


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
    slower = MUON | long | {"learning_rate": 0.03}
    yield Row("Muon, 30 epochs", "SGD, 30 epochs", MUON | long)
    yield Row("Muon at 0.03, 30 epochs", "SGD, 30 epochs", slower)
    changes: dict[str, dict[str, Any]] = {
        "mixup 0.2, off for 3 epochs": {
            "augmentation": AUGMENTATION | {"mixup": 0.2, "unmixed_epochs": 3}
        },
        "label smoothing 0.1": {"label_smoothing": 0.1},
        "averaged weights, 0.998 a step": {"ema": 0.998},
    }
    for name, changed in changes.items():
        yield Row(f"Muon, 30 epochs, {name}", "Muon, 30 epochs", MUON | long | changed)
    every = {"images": 45_000}
    yield Row("SGD, 30 epochs, all images", "", SGD | long | {"weight_decay": 5e-4}, **every)
    whole = "SGD, 30 epochs, all images"
    yield Row("Muon, 30 epochs, all images", whole, MUON | long, **every)
    yield Row("Muon at 0.03, 30 epochs, all images", whole, slower, **every)


def _taught() -> Iterator[Row]:
    for suffix, training in (("", SGD), (", Muon", MUON)):
        training = training | {"augmentation": {"crop": 2, "flip": True}}
        alone = f"no teacher{suffix}"
        yield Row(alone, "", training)
        for cached, weight in ((True, 0.5), (True, 0.9), (False, 0.9)):
            where = "cached" if cached else "in the loop"
            name = f"teacher {where}, weight {weight}{suffix}"
            lesson = {"teacher": TEACHER, "cached": cached, "weight": weight}
            yield Row(name, alone, training, others={"distillation": lesson})
