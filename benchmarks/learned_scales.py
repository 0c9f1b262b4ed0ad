"""What learning the scales by their logarithm brings over learning them as they are.

    python benchmarks/learned_scales.py

Trains a small DenseNet on scikit-learn's digits for each width and seed, both ways, and prints the
shipped network's accuracy on the validation split.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from micronet_search.compression import quantizers
from micronet_search.config.candidate import Candidate
from micronet_search.config.sweep import Dataset
from micronet_search.data import splits
from micronet_search.trial.trial import Trial

SEEDS = (0, 1, 2)


def as_they_are(start: Tensor, step: Tensor) -> Tensor:
    return start + step


def rounded_as_they_are(value: Tensor, start: Tensor, step: Tensor, low: int, high: int) -> Tensor:
    scale = as_they_are(start, step).clamp_min(quantizers.SMALLEST_SCALE)
    zero, factor = torch.zeros_like(scale), 1.0 / math.sqrt(value[0].numel() * high)
    if len(scale) == 1:
        return torch._fake_quantize_learnable_per_tensor_affine(
            value, scale, zero, low, high, factor
        )
    return torch._fake_quantize_learnable_per_channel_affine(
        value, scale, zero, 0, low, high, factor
    )


BY_LOGARITHM = (quantizers.scales, quantizers.rounded)
AS_THEY_ARE = (as_they_are, rounded_as_they_are)


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
    for name, functions in (("as they are", AS_THEY_ARE), ("by logarithm", BY_LOGARITHM)):
        quantizers.scales, quantizers.rounded = functions
        found = [accuracy(bits, seed) for seed in SEEDS]
        print(f"{bits} bits, scales learned {name}:", *(f"{value:.3f}" for value in found))
