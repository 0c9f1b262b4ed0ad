"""What a network predicts, and how often it is right."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def predictions(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """The class of each image, in single precision: without autocast and without TF32.

    Args:
        network: Is put into evaluation, and back.
        batches: Normalised images, each (N, C, H, W).

    Returns:
        (images,), int64, on the network's device.
    """
    training = network.training
    network.eval()
    try:
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return torch.cat([network(images).argmax(1) for images in batches])
    finally:
        network.train(training)


def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of images, 0 to 1, whose class the network names, in single precision.

    Args:
        network: Is put into evaluation, and back.
        batches: Normalised images (N, C, H, W) and their classes (N,), at least one.
    """
    correct, seen = 0, 0
    for images, labels in batches:
        correct += int((predictions(network, [images]) == labels).sum())
        seen += len(labels)
    return correct / seen
