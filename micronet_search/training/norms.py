"""Batch norms whose statistics are estimated anew."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def estimate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets the mean and variance of every norm to those of some images, in place.

    While a network trains, its norms keep a moving average over past steps, in which the weights
    were others and the images were augmented. What they estimate anew fits the weights as they are
    (as in precise batch norm, Wu and Johnson, 2021).

    Args:
        network: Its mode stays what it is.
        batches: Normalised images (N, C, H, W), which count alike where the batches have one size.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not norms:
        return
    training, momenta = network.training, [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches
    network.train()
    for images in batches:
        network(images)
    network.train(training)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
