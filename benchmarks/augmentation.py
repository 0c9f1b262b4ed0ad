"""What each augmentation costs, as a multiple of batches with none.

    OMP_NUM_THREADS=1 python benchmarks/augmentation.py [DEVICE]

Random images of CIFAR-10's shape, batches of 128; the least of 15 rounds.
"""

from __future__ import annotations

import sys
import time

import torch

from micronet_search.config.training import Augmentation
from micronet_search.data.batches import training_batches
from micronet_search.data.splits import Images, Normalization

COUNT, BATCH, CLASSES = 2560, 128, 10
CHANGES: dict[str, dict[str, object]] = {
    "none": {},
    "crop and flip": {"crop": 4, "flip": True},
    "rotation": {"rotation": 15.0},
    "jitter without hue": {"jitter": {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}},
    "jitter of hue": {"jitter": {"hue": 0.05}},
    "TrivialAugment": {"policy": "trivial"},
    "RandAugment": {"policy": "rand"},
    "random erasing": {"erasing": 0.5},
    "mixup": {"mixup": 0.2},
    "cutmix": {"cutmix": 1.0},
}


def seconds(augmentation: Augmentation, images: Images) -> float:
    generator = torch.Generator(images.images.device).manual_seed(0)
    best = float("inf")
    for _ in range(15):
        begun = time.perf_counter()
        for batch, _ in training_batches(
            images, Normalization(120, 0.016), augmentation, BATCH, CLASSES, generator
        ):
            last = batch
        float(last.sum())  # waits for the device
        best = min(best, time.perf_counter() - begun)
    return best


device = torch.device(sys.argv[1] if len(sys.argv) > 1 else "cpu")
noise = torch.randint(256, (COUNT, 3, 32, 32), dtype=torch.uint8, device=device)
found = Images(noise, torch.arange(COUNT, device=device) % CLASSES)
seconds(Augmentation(), found)  # the first one warms up
plain = seconds(Augmentation(), found)
for name, changed in CHANGES.items():
    print(f"{name:20} {seconds(Augmentation.model_validate(changed), found) / plain:6.1f}")
