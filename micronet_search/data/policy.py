"""One random operation of random strength for each image, as in TrivialAugment's wide space.

The operations and their largest strengths are torchvision's (`TrivialAugmentWide`), with one
exception: the largest translation is a seventh of the image's side, which are its 32 pixels of 224.

Which image gets which operation is drawn in two steps that together are one even draw for each
image: how many images of a batch get each operation (`counts`, for all batches at once, because
the host needs them), and which. So every image goes through its own operation alone, at one
fourteenth of the work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from micronet_search.data import color
from micronet_search.data.geometry import turn, warp

BINS = 31
"""Strengths that are drawn, evenly from 0 to 1."""

Operation = Callable[[Tensor, Tensor, int], Tensor]
"""Changes uint8 (B, C, H, W) by strengths float32 (B,) from -1 to 1, with a value to fill with."""


def counts(batches: int, size: int, generator: Generator) -> list[list[int]]:
    """How many images of each batch get each of `OPERATIONS`. Waits for the device."""
    device = generator.device
    drawn = torch.randint(len(OPERATIONS), (batches, size), generator=generator, device=device)
    named = torch.arange(len(OPERATIONS), device=device)
    return [list(row) for row in (drawn[:, :, None] == named).sum(1).tolist()]


def apply(images: Tensor, shares: Sequence[int], fill: int, generator: Generator) -> Tensor:
    """Applies one operation of `OPERATIONS` to each image.

    Args:
        images: uint8 (B, C, H, W).
        shares: How many images get each operation; they sum up to B.
        fill: Value of what comes from outside an image.
        generator: Where strengths and images are drawn from.

    Returns:
        Images of the same shape and type.
    """
    count, device = len(images), images.device
    order = torch.randperm(count, generator=generator, device=device)
    strength = torch.randint(BINS, (count,), generator=generator, device=device) / (BINS - 1)
    sign = 1 - 2 * torch.randint(2, (count,), generator=generator, device=device)
    parts = zip(images[order].split(shares), (strength * sign).split(shares), strict=True)
    changed = [
        operation(part, strengths, fill)
        for operation, (part, strengths) in zip(OPERATIONS.values(), parts, strict=True)
        if len(part)
    ]
    return torch.empty_like(images).index_copy_(0, order, torch.cat(changed))


def _identity(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return images


def _moved(
    images: Tensor,
    fill: int,
    *,
    across: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
    down: tuple[Tensor | float, Tensor | float] = (0.0, 0.0),
) -> Tensor:
    """Fetches x from x + across[0] y + across[1], and y from y + down[0] x + down[1]."""
    matrices = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    matrices[:, 0, 1], matrices[:, 0, 2] = across
    matrices[:, 1, 0], matrices[:, 1, 2] = down
    return warp(images, matrices, fill, "nearest")


# Torchvision shears about the image's upper left corner.
def _shear_x(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    slope = 0.99 * strength
    return _moved(images, fill, across=(slope, slope * images.shape[2] / 2))


def _shear_y(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    slope = 0.99 * strength
    return _moved(images, fill, down=(slope, slope * images.shape[3] / 2))


def _translate_x(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return _moved(images, fill, across=(0.0, -(strength * images.shape[3] / 7).trunc()))


def _translate_y(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return _moved(images, fill, down=(0.0, -(strength * images.shape[2] / 7).trunc()))


def _rotate(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    return warp(images, turn(135 * strength), fill, "nearest")


def _blended(change: Callable[[Tensor, Tensor], Tensor]) -> Operation:
    """An operation from a change of colours by a factor of 0.01 to 1.99."""

    def operation(images: Tensor, strength: Tensor, fill: int) -> Tensor:
        factor = (1 + 0.99 * strength).view(-1, 1, 1, 1)
        return change(images.float(), factor).round().byte()

    return operation


def _posterize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    dropped = (6 * strength.abs()).round().byte().view(-1, 1, 1, 1)
    return images >> dropped << dropped


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
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
    "Rotate": _rotate,
    "Brightness": _blended(color.brightness),
    "Color": _blended(color.saturation),
    "Contrast": _blended(color.contrast),
    "Sharpness": _blended(color.sharpness),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": _autocontrast,
    "Equalize": _equalize,
}
"""By torchvision's names."""
