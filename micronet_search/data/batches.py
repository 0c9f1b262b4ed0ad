"""Batches, cut from images that already are on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Generator, Tensor

from micronet_search.config.training import Augmentation
from micronet_search.data import policy
from micronet_search.data.augmentation import crop_and_flip, cutmix, erase, mixup
from micronet_search.data.color import jitter
from micronet_search.data.geometry import rotate
from micronet_search.data.splits import Images, Normalization

Mix = Callable[..., tuple[Tensor, Tensor]]
"""`mixup` or `cutmix` with its alpha; takes images, targets and a generator."""


def batches_in_epoch(images: int, batch_size: int) -> int:
    """Returns how many batches `training_batches` yields for a number of images."""
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
    """Yields one epoch of shuffled and augmented images.

    Args:
        images: The training images. All computation happens on their device.
        normalization: Turns images into a network's input.
        augmentation: The random changes of images.
        batch_size: Images in a batch. The last, short batch is dropped unless it is the only one.
        classes: Number of classes.
        generator: The only source of randomness, on the images' device.
        mixing: Whether images are mixed in this epoch where the augmentation does so.

    Yields:
        Float32 images (B, C, H, W), and the probability of each class, float32 (B, classes).
    """
    device = images.images.device
    count = batches_in_epoch(len(images), batch_size)
    order = torch.randperm(len(images), generator=generator, device=device)
    # Drawn for the whole epoch at once, because reading it on the host waits for the device.
    mixes = _mixes(augmentation, count, generator) if mixing else [None] * count
    operations = _operation_counts(augmentation, count, min(batch_size, len(images)), generator)
    one_hot = torch.eye(classes, device=device)
    batches = zip(torch.split(order, batch_size), mixes, operations, strict=False)
    for rows, mix, counts in batches:
        changed = _augmented(
            images.images[rows], augmentation, counts, normalization.mean, generator
        )
        batch, targets = normalized(changed, normalization), one_hot[images.labels[rows]]
        yield mix(batch, targets, generator=generator) if mix else (batch, targets)


def evaluation_batches(
    images: Images, normalization: Normalization, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields all images once, in order and unchanged.

    Yields:
        Float32 images (B, C, H, W) and their labels, int64 (B,).
    """
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        yield normalized(images.images[batch], normalization), images.labels[batch]


def normalized(images: Tensor, normalization: Normalization) -> Tensor:
    """Turns uint8 images into a network's input: float32 (B, C, H, W), channels last in memory."""
    return normalization(images.to(torch.float32, memory_format=torch.channels_last))


def _augmented(
    images: Tensor,
    augmentation: Augmentation,
    operation_counts: list[list[int]],
    fill: int,
    generator: Generator,
) -> Tensor:
    """Changes uint8 images, which are a quarter of the bytes of normalised ones.

    New borders and erased pixels get the mean, which is zero after normalization.
    """
    images = crop_and_flip(images, augmentation.crop, augmentation.flip, fill, generator)
    images = rotate(images, augmentation.rotation, fill, generator)
    images = jitter(images, augmentation.jitter, generator)
    for counts in operation_counts:
        images = policy.apply(images, counts, fill, generator)
    return erase(images, augmentation.erasing, fill, generator)


def _operation_counts(
    augmentation: Augmentation, batches: int, size: int, generator: Generator
) -> list[list[list[int]]]:
    """Draws `policy.counts` of every batch, once for each operation that an image gets."""
    rounds = {None: 0, "trivial": 1, "rand": 2}[augmentation.policy]
    drawn = policy.counts(rounds * batches, size, generator) if rounds else []
    return [drawn[rounds * batch : rounds * (batch + 1)] for batch in range(batches)]


def _mixes(augmentation: Augmentation, batches: int, generator: Generator) -> list[Mix | None]:
    """Draws how the images of each batch are mixed, None where they are not."""
    mixes: list[Mix] = []
    if augmentation.mixup:
        mixes.append(partial(mixup, alpha=augmentation.mixup))
    if augmentation.cutmix:
        mixes.append(partial(cutmix, alpha=augmentation.cutmix))
    if not mixes:
        return [None] * batches
    probability = augmentation.mix_probability
    drawn = torch.rand(batches, generator=generator, device=generator.device).tolist()
    return [
        mixes[int(share / probability * len(mixes))] if share < probability else None
        for share in drawn
    ]
