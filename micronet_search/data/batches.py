"""Batches, cut from images that already are on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Generator, Tensor

from micronet_search.config.training import Augmentation
from micronet_search.data.augmentation import crop_and_flip, cutmix, erase, mixup
from micronet_search.data.splits import Images, Normalization
from micronet_search.data.transforms import apply_policy, jitter, policy_counts, rotate

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
    count, size = batches_in_epoch(len(images), batch_size), min(batch_size, len(images))
    order = torch.randperm(len(images), generator=generator, device=device)
    # Drawn for the whole epoch at once, because reading it on the host waits for the device.
    mixes = _mixes(augmentation, count, generator) if mixing else [None] * count
    rounds = {None: 0, "trivial": 1, "rand": 2}[augmentation.policy]
    operations = policy_counts(rounds * count, size, generator) if rounds else []
    one_hot, fill = torch.eye(classes, device=device), normalization.mean
    for batch, (rows, mix) in enumerate(zip(order.split(batch_size), mixes, strict=False)):
        # uint8 images, which are a quarter of the bytes of normalised ones
        changed = crop_and_flip(
            images.images[rows], augmentation.crop, augmentation.flip, fill, generator
        )
        changed = rotate(changed, augmentation.rotation, fill, generator)
        changed = jitter(changed, augmentation.jitter, generator)
        for counts in operations[rounds * batch : rounds * (batch + 1)]:
            changed = apply_policy(changed, counts, fill, generator)
        changed = erase(changed, augmentation.erasing, fill, generator)
        inputs, targets = normalized(changed, normalization), one_hot[images.labels[rows]]
        yield mix(inputs, targets, generator=generator) if mix else (inputs, targets)


def evaluation_batches(
    images: Images, normalization: Normalization, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields all images (B, C, H, W) and their labels (B,) once, in order and unchanged."""
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        yield normalized(images.images[batch], normalization), images.labels[batch]


def normalized(images: Tensor, normalization: Normalization) -> Tensor:
    """Turns uint8 images into a network's input: float32 (B, C, H, W), channels last in memory."""
    return normalization(images.to(torch.float32, memory_format=torch.channels_last))


def _mixes(augmentation: Augmentation, batches: int, generator: Generator) -> list[Mix | None]:
    """Draws how the images of each batch are mixed, None where they are not."""
    kinds = {mixup: augmentation.mixup, cutmix: augmentation.cutmix}
    mixes: list[Mix] = [partial(kind, alpha=alpha) for kind, alpha in kinds.items() if alpha]
    if not mixes:
        return [None] * batches
    probability = augmentation.mix_probability
    drawn = torch.rand(batches, generator=generator, device=generator.device).tolist()
    return [
        mixes[int(share / probability * len(mixes))] if share < probability else None
        for share in drawn
    ]
