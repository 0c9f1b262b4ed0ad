"""Sizes of the files of trained networks, and whether they predict what PyTorch does.

    OMP_NUM_THREADS=1 python benchmarks/agreement.py FOLDER [--images 10000] [--epochs 2]

FOLDER holds CIFAR-10 as parquet files. Networks of every family are trained for so many epochs,
compressed for one more by each technique, and compared on the whole test split. Rows that
`results/agreement.csv` holds already are left as they are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from techniques import DENSENET, EFFICIENTNET, FLIP, RESNET, run

from micronet_search import build, mnz, shipped
from micronet_search.config.files import read_candidate
from micronet_search.config.sweep import SHAPES, Dataset
from micronet_search.data import splits
from micronet_search.data.splits import Splits
from micronet_search.export import packed
from micronet_search.runtime import onnx_model, session
from micronet_search.training.fit import predictions

RESULTS = Path(__file__).parent / "results" / "agreement.csv"
BATCH = 250
NETWORKS = {
    "densenet, groups 2": DENSENET | {"groups": 2},
    "resnet": RESNET,
    "efficientnet, SiLU, squeeze": EFFICIENTNET | {"activation": "silu", "squeeze": 0.25},
}


def bits(weight: int, activation: int, **parts: Any) -> dict[str, Any]:
    widths = {"weight_bits": weight, "activation_bits": activation}
    return {"quantization": widths | {"epochs": int(activation < 16)} | parts}


TECHNIQUES: dict[str, dict[str, Any]] = {
    "16 bits, thin": bits(16, 16) | {"structured_pruning": {"ratio": 0.3}},
    "8 bits, Tucker": bits(8, 8) | {"factorization": {"kind": "tucker", "ratio": 0.5}},
    "4 bits, sparse": bits(4, 4) | {"pruning": {"sparsity": 0.6}},
    "4 bits, SVD, dynamic": bits(4, 4, mode="dynamic")
    | {"factorization": {"kind": "svd", "ratio": 0.5}},
    "3 bits": bits(3, 4, first={"weight_bits": 8}),
    "signs, sparse": bits(1, 4) | {"pruning": {"sparsity": 0.5}},
}


def measure(network: dict[str, Any], parts: dict[str, Any], found: Splits, epochs: int) -> Any:
    """Trains one network, and compares its files with it."""
    training = {"learning_rate": 5e-3, "schedule": "one-cycle", "augmentation": FLIP}
    tree = {"network": network, "training": training | {"epochs": epochs}, **parts}
    result = run(read_candidate(tree, SHAPES["cifar10"], 10), found, 0, None)
    trained = shipped.unpack(result.files["model.safetensors"])
    images = found.test.images.split(BATCH)
    expected = predictions(trained, images).numpy()
    pack, graph = packed.pack(trained), onnx_model.write(trained, {})
    reader, started = mnz.load(pack), session.start(graph)
    by_reader = np.concatenate([reader(part.numpy()).argmax(1) for part in images])
    by_onnx = np.concatenate([session.run(started, part).argmax(1).numpy() for part in images])
    counted = build.predict(trained.candidate).measured(trained.tensors).storage_bytes
    return {
        "test accuracy": float((expected == found.test.labels.numpy()).mean()),
        "counted bytes": counted,
        "model.mnz": len(pack),
        "model.onnx": len(graph),
        "images": len(expected),
        "reader differs": int((by_reader != expected).sum()),
        "ONNX Runtime differs": int((by_onnx != expected).sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()
    dataset = {"name": "parquet", "root": given.folder, "validation": 0.1, "limit": given.images}
    found = splits.load(Dataset.model_validate(dataset))
    rows = pd.read_csv(RESULTS).to_dict("records") if RESULTS.exists() else []
    for name, network in NETWORKS.items():
        for technique, parts in TECHNIQUES.items():
            named = {"network": name, "technique": technique}
            if any(named.items() <= row.items() for row in rows):
                continue
            rows.append(named | measure(network, parts, found, given.epochs))
            print(rows[-1], flush=True)
            pd.DataFrame(rows).to_csv(RESULTS, index=False, lineterminator="\n")
    print(pd.DataFrame(rows).to_string(index=False))


if __name__ == "__main__":
    main()
