"""What learning the scales by their logarithm brings over learning them as they are.

    python benchmarks/learned_scales.py

Trains a small DenseNet on scikit-learn's digits for each width and seed, both ways, and prints the
shipped network's accuracy on the validation split.
"""

from __future__ import annotations

import torch

from micronet_search.compression import quantize
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.trial import Trial

SEEDS = (0, 1, 2)
BY_LOGARITHM = quantize.Quantizer.scale
AS_THEY_ARE = property(
    lambda self: (self.start + self.log_ratio).clamp_min(quantize.SMALLEST_SCALE)
)


def candidate(bits: int) -> Candidate:
    return Candidate.model_validate(
        {
            "input": {"channels": 1, "height": 8, "width": 8},
            "network": {
                "family": "densenet",
                "stem": {"width": 12},
                "growth_rate": 8,
                "layers": [2, 2],
                "bottleneck": 2,
            },
            "training": {"epochs": 8, "batch_size": 64, "learning_rate": 0.01},
            "quantization": {
                "weight_bits": bits,
                "activation_bits": bits,
                "epochs": 4,
                "learning_rate_factor": 0.5,
            },
        }
    )


def accuracy(bits: int, seed: int) -> float:
    data = splits.load(Dataset(name="digits", validation=300))
    trial = Trial(candidate(bits), data, seed=seed, device=torch.device("cpu"))
    trial.begin()
    trial.advance(trial.epochs)
    found = trial.finish().outcome.accuracy
    assert found is not None
    return found


for bits in (8, 4, 3, 2):
    for name, scale in (("as they are", AS_THEY_ARE), ("by logarithm", BY_LOGARITHM)):
        quantize.Quantizer.scale = scale
        found = [accuracy(bits, seed) for seed in SEEDS]
        print(f"{bits} bits, scales learned {name}:", *(f"{value:.3f}" for value in found))
