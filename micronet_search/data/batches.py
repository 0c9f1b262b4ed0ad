"""Batches, cut from images that already are on the device."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Generator, Tensor

from micronet_search.config.training import Augmentation
from micronet_search.data import policy
from micronet_search.data.augmentation import crop_and_flip, cutmix, erase, mixup
from micronet_search.data.color import jitter
from micronet_search.data.geometry import rotate
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
    *,
    mixing: bool = True,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of shuffled and augmented images.

    Args:
        images: The training images; everything happens on their device.
        normalization: Turns them into a network's input.
        augmentation: What happens to them.
        batch_size: Images in a batch; the last, short batch is dropped unless it is the only one.
        classes: Number of classes.
        generator: On the images' device; the one source of randomness.
        mixing: Whether this epoch mixes images where the augmentation does.

    Yields:
        Float32 images (B, C, H, W), and the probability of each class, float32 (B, classes).
    """
    device = images.images.device
    count = batches_in_epoch(len(images), batch_size)
    order = torch.randperm(len(images), generator=generator, device=device)
    # Drawn for the whole epoch at once, because reading it on the host waits for the device.
    mixes = _mixes(augmentation if mixing else Augmentation(), count, generator)
    shares = _shares(augmentation, count, min(batch_size, len(images)), generator)
    one_hot = torch.eye(classes, device=device)
    parts = zip(torch.split(order, batch_size), mixes, shares, strict=False)
    for rows, mix, operations in parts:
        changed = _change(
            images.images[rows], augmentation, operations, normalization.mean, generator
        )
        batch, targets = normalized(changed, normalization), one_hot[images.labels[rows]]
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
        yield normalized(images.images[batch], normalization), images.labels[batch]


def normalized(images: Tensor, normalization: Normalization) -> Tensor:
    """The input of a network from 8-bit images: float32 (B, C, H, W), channels last in memory."""
    return normalization(images.to(torch.float32, memory_format=torch.channels_last))


def _change(
    images: Tensor,
    augmentation: Augmentation,
    operations: list[list[int]],
    fill: int,
    generator: Generator,
) -> Tensor:
    """All that happens to 8-bit images, a quarter of the bytes of normalised ones.

    What is exposed or blanked gets the mean, which is zero after normalization.
    """
    images = crop_and_flip(images, augmentation.crop, augmentation.flip, fill, generator)
    images = rotate(images, augmentation.rotation, fill, generator)
    images = jitter(images, augmentation.jitter, generator)
    for shares in operations:
        images = policy.apply(images, shares, fill, generator)
    return erase(images, augmentation.erasing, fill, generator)


def _shares(
    augmentation: Augmentation, batches: int, size: int, generator: Generator
) -> list[list[list[int]]]:
    """How many images of each batch get each operation, once for each operation of an image."""
    row = {None: 0, "trivial": 1, "rand": 2}[augmentation.policy]
    drawn = policy.counts(row * batches, size, generator) if row else []
    return [drawn[row * batch : row * (batch + 1)] for batch in range(batches)]


def _mixes(augmentation: Augmentation, batches: int, generator: Generator) -> list[str | None]:
    """What mixes the images of each batch of an epoch."""
    alphas = {"mixup": augmentation.mixup, "cutmix": augmentation.cutmix}
    names = [name for name, alpha in alphas.items() if alpha]
    probability = augmentation.mix_probability
    if not names:
        return [None] * batches
    drawn = torch.rand(batches, generator=generator, device=generator.device).tolist()
    return [
        names[int(share / probability * len(names))] if share < probability else None
        for share in drawn
    ]
