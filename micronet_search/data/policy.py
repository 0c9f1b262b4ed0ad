"""One random operation of random strength for each image, as in TrivialAugment's wide space.

The operations and their largest strengths are torchvision's (`TrivialAugmentWide`), with one
exception: the largest translation is a seventh of the image's side, torchvision's 32 pixels of 224.

The operation of each image is drawn in two steps, which together are one even draw: first how many
images of a batch get each operation, then which images those are. So each image passes through one
operation and not through all fourteen. The first step (`counts`) covers all batches at once,
because the host waits for the numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Generator, Tensor

from micronet_search.data import color
from micronet_search.data.geometry import turn, warp

BINS = 31
"""Number of strengths, evenly spaced from 0 to 1."""

Operation = Callable[[Tensor, Tensor, int], Tensor]
"""Changes uint8 images (B, C, H, W) by strengths (B,) from -1 to 1, and fills with a value."""


def counts(batches: int, size: int, generator: Generator) -> list[list[int]]:
    """Draws how many of the `size` images of each batch get each of `OPERATIONS`."""
    device = generator.device
    drawn = torch.randint(len(OPERATIONS), (batches, size), generator=generator, device=device)
    numbers = torch.arange(len(OPERATIONS), device=device)
    found: list[list[int]] = (drawn[:, :, None] == numbers).sum(1).tolist()
    return found


def apply(images: Tensor, counts: Sequence[int], fill: int, generator: Generator) -> Tensor:
    """Applies one of `OPERATIONS` to each uint8 image (B, C, H, W).

    Args:
        images: Images of a batch of `counts`.
        counts: How many images get each operation; their sum is B.
        fill: Value of pixels from outside the image.
        generator: Decides which images get which operation, and how strongly.
    """
    count, device = len(images), images.device
    order = torch.randperm(count, generator=generator, device=device)
    strength = torch.randint(BINS, (count,), generator=generator, device=device) / (BINS - 1)
    sign = 1 - 2 * torch.randint(2, (count,), generator=generator, device=device)
    parts = zip(images[order].split(counts), (strength * sign).split(counts), strict=True)
    changed = [
        operation(part, strengths, fill)
        for operation, (part, strengths) in zip(OPERATIONS.values(), parts, strict=True)
        if len(part)
    ]
    return torch.empty_like(images).index_copy_(0, order, torch.cat(changed))


def _identity(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return images


def _shear(images: Tensor, strength: Tensor, fill: int, *, axis: int) -> Tensor:
    """Shears along x (axis 0) or y (axis 1)."""
    slope = 0.99 * strength
    matrices = _identities(images)
    matrices[:, axis, 1 - axis] = slope
    # torchvision shears about the upper left corner of the image, and `warp` about its centre
    matrices[:, axis, 2] = slope * images.shape[2 + axis] / 2
    return warp(images, matrices, fill, "nearest")


def _translate(images: Tensor, strength: Tensor, fill: int, *, axis: int) -> Tensor:
    """Moves along x (axis 0) or y (axis 1)."""
    matrices = _identities(images)
    matrices[:, axis, 2] = -(strength * images.shape[3 - axis] / 7).trunc()
    return warp(images, matrices, fill, "nearest")


def _identities(images: Tensor) -> Tensor:
    return torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)


def _rotate(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return warp(images, turn(135 * strength), fill, "nearest")


def _recolor(
    images: Tensor, strength: Tensor, fill: int, *, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Changes colours by a factor from 0.01 to 1.99."""
    factor = (1 + 0.99 * strength).view(-1, 1, 1, 1)
    return change(images.float(), factor).round().byte()


def _posterize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    dropped_bits = (6 * strength.abs()).round().byte().view(-1, 1, 1, 1)
    return images >> dropped_bits << dropped_bits


def _solarize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    threshold = 255 * (1 - strength.abs()).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 255 - images, images)


def _autocontrast(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return color.autocontrast(images.float()).round().byte()


def _equalize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed: Tensor = functional.equalize(images)
    return changed


OPERATIONS: dict[str, Operation] = {
    "Identity": _identity,
    "ShearX": partial(_shear, axis=0),
    "ShearY": partial(_shear, axis=1),
    "TranslateX": partial(_translate, axis=0),
    "TranslateY": partial(_translate, axis=1),
    "Rotate": _rotate,
    "Brightness": partial(_recolor, change=color.brightness),
    "Color": partial(_recolor, change=color.saturation),
    "Contrast": partial(_recolor, change=color.contrast),
    "Sharpness": partial(_recolor, change=color.sharpness),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
}
"""Every operation, by torchvision's name."""
