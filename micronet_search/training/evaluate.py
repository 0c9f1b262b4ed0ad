"""What a network predicts, and how often it is right.

Both functions compute in single precision and in evaluation, and leave the network in the mode that
it was in. Images are normalised, (N, C, H, W).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def predictions(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """Returns the class of each image, int64 (images,), on the network's device."""
    training = network.training
    network.eval()
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([network(images).argmax(1) for images in batches])
    finally:
        network.train(training)


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Returns the share of images, 0 to 1, whose label (N,) the network predicts."""
    correct, seen = 0, 0
    for images, labels in batches:
        correct += int((predictions(network, [images]) == labels).sum())
        seen += len(labels)
    return correct / seen
