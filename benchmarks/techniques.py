"""What each technique brings on one small budget: accuracy, score and seconds, with and without.

    python benchmarks/techniques.py FOLDER [--images 5000] [--epochs 8] [--out techniques.csv]

FOLDER holds CIFAR-10 as parquet files. Every row is one trial with the same number of epochs in
all and the same seed; its shipped network is exported and run again in ONNX Runtime on the test
split. Rows that the CSV file holds already are left as they are; `--table` prints the table of
docs/techniques.md from it. `--times` names another such file, of fewer images, that the times are
taken from: those of one thread, as the processor counts them.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from micronet_search import shipped
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.export import check
from micronet_search.runtime import onnx_model
from micronet_search.store.outcome import Result
from micronet_search.trial.trial import Trial

CPU = torch.device("cpu")
COMPRESSING = 3
"""Epochs, of those in all, that a technique after the first fit takes."""

DENSENET = {
    "family": "densenet",
    "stem": {"width": 16, "stride": 2},
    "growth_rate": 12,
    "layers": [3, 3],
    "bottleneck": 2,
}
RESNET = {
    "family": "resnet",
    "stem": {"width": 16, "stride": 2},
    "widths": [12, 16, 24, 32],
    "layers": 1,
}
EFFICIENTNET = {
    "family": "efficientnet",
    "stem": {"width": 16, "stride": 2},
    "widths": [16, 24, 32],
    "layers": [1, 2, 2],
    "strides": [1, 2, 2],
    "expansions": 3,
}
TEACHER = {**RESNET, "stem": {"width": 24, "stride": 2}, "widths": [24, 48, 64, 96]}
FLIP = {"flip": True, "crop": 2}
QUARTER = {"weight_bits": 4, "activation_bits": 4, "first": {"weight_bits": 8}}

Row = tuple[str, str, dict[str, Any]]
"""The row's name, that of the row to compare it with, and what is changed of the base."""


def rows() -> Iterator[Row]:
    """All rows, each after the one that it is compared with."""
    yield "DenseNet (base)", "", {}
    yield from _families()
    yield from _training()
    yield from _compression()


def _families() -> Iterator[Row]:
    base = "DenseNet (base)"
    yield "groups 2, 3", base, {"network": DENSENET | {"groups": [2, 3]}}
    yield "separable 3x3", base, {"network": DENSENET | {"convolution": "separable"}}
    yield "ResNet, 10 layers", base, {"network": RESNET}
    yield "ResNet, groups 4", "ResNet, 10 layers", {"network": RESNET | {"groups": 4}}
    separable = RESNET | {"convolution": "separable"}
    yield "ResNet, separable 3x3", "ResNet, 10 layers", {"network": separable}
    bottleneck = RESNET | {"layer": "bottleneck", "widths": [6, 8, 12, 16]}
    yield "ResNet, bottleneck", "ResNet, 10 layers", {"network": bottleneck}
    small = "EfficientNet, ReLU"
    yield small, base, {"network": EFFICIENTNET}
    yield "EfficientNet, SiLU", small, {"network": EFFICIENTNET | {"activation": "silu"}}
    swish = EFFICIENTNET | {"activation": "hard-swish"}
    yield "EfficientNet, hard-swish", small, {"network": swish}
    yield "squeeze-and-excite", small, {"network": EFFICIENTNET | {"squeeze": 0.25}}
    yield "5x5 depthwise", small, {"network": EFFICIENTNET | {"kernels": [3, 5, 5]}}
    yield "EfficientNet, plain 3x3", small, {"network": EFFICIENTNET | {"convolution": "plain"}}
    wide = EFFICIENTNET | {"width_multiplier": 1.5, "depth_multiplier": 0.5}
    yield "width x 1.5, depth x 0.5", small, {"network": wide}


def _training() -> Iterator[Row]:
    base = "DenseNet (base)"
    changes: dict[str, dict[str, Any]] = {
        "no crop, no flip": {"augmentation": {}},
        "rotation": {"augmentation": FLIP | {"rotation": 15.0}},
        "colour jitter": {
            "augmentation": FLIP | {"jitter": {"brightness": 0.2, "contrast": 0.2, "hue": 0.05}}
        },
        "random erasing": {"augmentation": FLIP | {"erasing": 0.5}},
        "TrivialAugment": {"augmentation": FLIP | {"policy": "trivial"}},
        "RandAugment": {"augmentation": FLIP | {"policy": "rand"}},
        "mixup": {"augmentation": FLIP | {"mixup": 0.2}},
        "cutmix": {"augmentation": FLIP | {"cutmix": 1.0}},
        "mixup and cutmix, half of the batches, 2 epochs without": {
            "augmentation": FLIP
            | {"mixup": 0.2, "cutmix": 1.0, "mix_probability": 0.5, "unmixed_epochs": 2}
        },
        "SGD": {"optimizer": "sgd", "learning_rate": 0.1},
        "AdamW": {"optimizer": "adamw", "weight_decay": 0.05},
        "Muon": {"optimizer": "muon", "weight_decay": 0.05},
        "cosine": {"schedule": "cosine", "warmup": 1},
        "cosine, one restart": {"schedule": {"name": "cosine", "restarts": 1}},
        "linear": {"schedule": "linear", "warmup": 1},
        "multi-step": {"schedule": "multi-step"},
        "averaged weights (EMA)": {"ema": 0.99},
    }
    for name, changed in changes.items():
        yield name, base, {"training": changed}
    soft = {"teacher": "TEACHER", "temperature": 4.0, "weight": 0.7}
    yield "distillation from a ResNet", base, {"distillation": soft}


def _compression() -> Iterator[Row]:
    base = "DenseNet (base)"
    changes: dict[str, dict[str, Any]] = {
        "structured pruning, ratio 0.3": {"structured_pruning": {"ratio": 0.3}},
        "factorization, SVD, ratio 0.5": {"factorization": {"kind": "svd", "ratio": 0.5}},
        "factorization, Tucker-2, ratio 0.5": {"factorization": {"kind": "tucker", "ratio": 0.5}},
        "pruning, sparsity 0.6, cubic": {"pruning": {"sparsity": 0.6}},
        "pruning, iterative": {"pruning": {"sparsity": 0.6, "schedule": "iterative"}},
        "pruning, one-shot": {"pruning": {"sparsity": 0.6, "schedule": "one-shot"}},
        "pruning, first and last excluded": {
            "pruning": {"sparsity": 0.6, "exclude": ["first", "last"]}
        },
        "8 bits, static": {"quantization": {"weight_bits": 8, "activation_bits": 8}},
        "4 bits, static": {"quantization": QUARTER},
        "4 bits, dynamic": {"quantization": QUARTER | {"mode": "dynamic"}},
        "1-bit weights, 4-bit activations": {"quantization": QUARTER | {"weight_bits": 1}},
        "2 bits in block 2, 4 elsewhere": {
            "quantization": QUARTER | {"blocks": {"block2": {"weight_bits": 2}}}
        },
    }
    for name, changed in changes.items():
        ((stage, options),) = changed.items()
        factor = 0.2 if stage == "quantization" else 0.5
        budget = {"epochs": COMPRESSING, "learning_rate_factor": factor}
        yield name, base, {stage: options | budget}
    half = {"weight_bits": 16, "activation_bits": 16}
    yield "16 bits, static", base, {"quantization": half}
    for name, network in (("ResNet", RESNET), ("EfficientNet", EFFICIENTNET)):
        asked = {"quantization": QUARTER | {"epochs": COMPRESSING, "learning_rate_factor": 0.2}}
        yield (
            f"{name}, 4 bits",
            f"{name}, {'10 layers' if name == 'ResNet' else 'ReLU'}",
            {
                "network": network,
                **asked,
            },
        )
    yield (
        "all of it",
        base,
        {
            "network": DENSENET | {"groups": 2},
            "training": {"augmentation": FLIP, "ema": 0.99},
            "distillation": {"teacher": "TEACHER", "temperature": 4.0, "weight": 0.7},
            "structured_pruning": {"ratio": 0.15, "epochs": 1, "learning_rate_factor": 0.5},
            "factorization": {
                "kind": "svd",
                "ratio": 0.7,
                "epochs": 1,
                "learning_rate_factor": 0.5,
            },
            "pruning": {"sparsity": 0.4, "epochs": 2, "learning_rate_factor": 0.5},
            "quantization": QUARTER | {"epochs": 2, "learning_rate_factor": 0.2},
        },
    )


def candidate(changes: dict[str, Any], found: Splits, epochs: int) -> Candidate:
    """The base with some changes; its first fit has the epochs that its stages leave of all."""
    tree: dict[str, Any] = {"network": DENSENET, **changes}
    spent = sum(part.get("epochs", 0) for name, part in tree.items() if name != "training")
    base = {"learning_rate": 5e-3, "schedule": "one-cycle", "augmentation": FLIP}
    tree["training"] = base | changes.get("training", {}) | {"epochs": epochs - spent}
    if "distillation" in tree:
        tree["distillation"] = tree["distillation"] | {"teacher": teacher(epochs)}
    images = {"input": found.input.model_dump(), "classes": found.classes}
    return Candidate.model_validate(images | tree)


def teacher(epochs: int) -> dict[str, Any]:
    """A wider ResNet, trained twice as long."""
    training = {"epochs": 2 * epochs, "learning_rate": 5e-3, "schedule": "one-cycle"}
    return {"network": TEACHER, "training": training | {"augmentation": FLIP}}


def run(asked: Candidate, found: Splits, seed: int, content: bytes | None) -> Result:
    """A trial from its beginning to its end."""
    trial = Trial(asked, found, seed=seed, device=CPU, teacher=content)
    trial.begin()
    trial.advance(trial.epochs)
    return trial.finish()


def measure(result: Result, found: Splits, seconds: float) -> dict[str, Any]:
    """The figures of a row."""
    network = shipped.unpack(result.files["model.safetensors"])
    agreement = check.compare(onnx_model.write(network, {}), network, found.test)
    outcome = result.outcome
    return {
        "validation": round(outcome.accuracy or 0.0, 4),
        "test": round(agreement.onnx_accuracy, 4),
        "imt": round(outcome.scores["imt"]["score"], 6),
        "micronet2019": round(outcome.scores["micronet2019"]["score"], 6),
        "parameters": outcome.parameters,
        "nonzeros": outcome.nonzeros,
        "macs": outcome.macs,
        "seconds": round(seconds),
        "differing": agreement.differing,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--only", default="", help="rows whose name holds this text")
    parser.add_argument("--out", type=Path, default=Path("techniques.csv"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--times", type=Path)
    given = parser.parse_args()
    if given.table:
        print(table(given.out, given.times or given.out))
        return
    dataset = Dataset(
        name="parquet", root=given.folder, validation=given.images // 5, limit=given.images
    )
    found = splits.load(dataset)
    lesson = given.out.with_suffix(".teacher")
    run(candidate({}, found, 1), found, 0, None)  # the first trial of a process takes longer
    for name, beside, changes in rows():
        for seed in given.seeds:
            if given.only not in name or (name, str(seed)) in done(given.out):
                continue
            asked = candidate(changes, found, given.epochs)
            content = None
            if asked.distillation is not None:
                if not lesson.exists():
                    own = asked.teacher()
                    taught = run(own, found, 0, None)
                    print(f"teacher: {taught.outcome.accuracy:.4f}", flush=True)
                    lesson.write_bytes(taught.files["model.safetensors"])
                content = lesson.read_bytes()
            begun = time.process_time()
            result = run(asked, found, seed, content)
            seconds = time.process_time() - begun
            row = {"technique": name, "beside": beside, "seed": seed}
            row |= measure(result, found, seconds)
            append(given.out, row)
            print(row, flush=True)


def table(path: Path, times: Path) -> str:
    """The rows as Markdown, the means over seeds, with the differences to the row beside."""
    means, seconds = _means(path), {n: row["seconds"] for n, row in _means(times).items()}
    lines = [
        "| technique | beside | accuracy | | score (imt) | | nonzeros | MACs | time |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in means.items():
        cells = [name, row["beside"], f"{row['test']:.1%}", "", f"{row['imt']:.5f}", ""]
        cells += [f"{row['nonzeros']:,.0f}", f"{row['macs'] / 1e6:.2f} M", ""]
        other = means.get(row["beside"])
        if other is not None:
            cells[3] = f"{100 * (row['test'] - other['test']):+.1f}"
            cells[5] = f"x {row['imt'] / other['imt']:.2f}"
            cells[8] = f"x {seconds[name] / seconds[row['beside']]:.1f}"
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _means(path: Path) -> dict[str, dict[str, Any]]:
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    order = {name: beside for name, beside, _ in rows()}
    means: dict[str, dict[str, Any]] = {}
    for name, beside in order.items():
        own = [row for row in found if row["technique"] == name]
        if own:
            numbers = ("test", "imt", "nonzeros", "macs", "seconds")
            mean = {n: sum(float(row[n]) for row in own) / len(own) for n in numbers}
            means[name] = {"beside": beside, **mean}
    return means


def done(path: Path) -> set[tuple[str, str]]:
    if not path.exists():
        return set()
    with path.open(newline="") as file:
        return {(row["technique"], row["seed"]) for row in csv.DictReader(file)}


def append(path: Path, row: dict[str, Any]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, row, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


if __name__ == "__main__":
    main()
