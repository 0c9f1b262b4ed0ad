"""What a network predicts, and how often it is right."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def predictions(network: nn.Module, batches: Iterable[Tensor]) -> Tensor:
    """The class of each image, without autocast.

    Args:
        network: Is put into evaluation, and back.
        batches: Normalised images, each (N, C, H, W).

    Returns:
        (images,), int64, on the network's device.
    """
    training = network.training
    network.eval()
    try:
        return torch.cat([network(images).argmax(1) for images in batches])
    finally:
        network.train(training)


@torch.no_grad()
def accuracy(network: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The share of images, 0 to 1, whose class the network names, without autocast.

    Args:
        network: Is put into evaluation, and back.
        batches: Normalised images (N, C, H, W) and their classes (N,).
    """
    pairs = list(batches)
    found = predictions(network, (images for images, _ in pairs))
    expected = torch.cat([labels for _, labels in pairs])
    return int((found == expected).sum()) / len(expected)
