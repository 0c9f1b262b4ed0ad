"""Batches, cut from images that already are on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from micronet_search.config.training import Augmentation
from micronet_search.data.augmentation import crop_and_flip, cutmix, mixup
from micronet_search.data.images import Images, Normalization


def batches_in_epoch(images: int, batch_size: int) -> int:
    """How many batches `training_batches` gives for a number of images."""
    return max(1, images // batch_size)


def training_batches(
    images: Images,
    normalization: Normalization,
    augmentation: Augmentation,
    batch_size: int,
    classes: int,
    generator: Generator,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled and augmented images.

    Args:
        images: The training images; everything happens on their device.
        normalization: Turns them into a network's input.
        augmentation: What happens to them.
        batch_size: Images in a batch; the last, short batch is dropped unless it is the only one.
        classes: Number of classes.
        generator: On the images' device; the one source of randomness.

    Yields:
        Float32 images (B, C, H, W), and the probability of each class, float32 (B, classes).
    """
    device = images.images.device
    count = batches_in_epoch(len(images), batch_size)
    order = torch.randperm(len(images), generator=generator, device=device)
    # Drawn for the whole epoch at once, because reading it on the host waits for the device.
    mixing = _mixing(augmentation, count, generator)
    one_hot = torch.eye(classes, device=device)
    for rows, mix in zip(torch.split(order, batch_size), mixing, strict=False):
        # Padding with the mean before normalization is zero padding after it, on a quarter of
        # the bytes.
        moved = crop_and_flip(
            images.images[rows],
            augmentation.crop,
            augmentation.flip,
            normalization.mean,
            generator,
        )
        batch, targets = normalization(moved), one_hot[images.labels[rows]]
        if mix == "mixup":
            batch, targets = mixup(batch, targets, augmentation.mixup, generator)
        elif mix == "cutmix":
            batch, targets = cutmix(batch, targets, augmentation.cutmix, generator)
        yield batch, targets


def evaluation_batches(
    images: Images, normalization: Normalization, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """All images once, in order and unchanged.

    Yields:
        Float32 images (B, C, H, W) and their labels, int64 (B,).
    """
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        yield normalization(images.images[batch]), images.labels[batch]


def _mixing(augmentation: Augmentation, batches: int, generator: Generator) -> list[str | None]:
    """What mixes the images of each batch of an epoch."""
    if augmentation.mixup and augmentation.cutmix:
        coins = torch.rand(batches, generator=generator, device=generator.device) < 0.5
        return ["mixup" if coin else "cutmix" for coin in coins.tolist()]
    only = "mixup" if augmentation.mixup else "cutmix" if augmentation.cutmix else None
    return [only] * batches
