"""Random changes to a batch of training images, each image by itself, all on its device.

Every function draws from the generator that it is given, which lives on the images' device, and
none waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

ERASED = (0.02, 0.33)
"""Smallest and largest share of an image that is erased (Zhong et al., 2020)."""
ASPECT = (0.3, 3.3)
"""Smallest and largest ratio of height to width of what is erased."""


def crop_and_flip(
    images: Tensor, padding: int, flip: bool, fill: int, generator: Generator
) -> Tensor:
    """Moves each image within a padded border, and mirrors half of them.

    Args:
        images: (B, C, H, W), of any type.
        padding: Pixels added on each side before a window of (H, W) is cut.
        flip: Whether to mirror images left to right, each with probability 1/2.
        fill: Value of the added pixels.
        generator: Where offsets and mirrors are drawn from.

    Returns:
        Images of the same shape and type.
    """
    if not padding and not flip:
        return images
    count, channels, height, width = images.shape
    device = images.device
    padded = torch.nn.functional.pad(images, (padding,) * 4, value=fill)
    offsets = torch.randint(2 * padding + 1, (2, count, 1), generator=generator, device=device)
    rows = offsets[0] + torch.arange(height, device=device)
    columns = offsets[1] + torch.arange(width, device=device)
    if flip:
        mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    pixels = rows[:, :, None] * (width + 2 * padding) + columns[:, None, :]
    index = pixels.view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view(images.shape)


def erase(images: Tensor, probability: float, fill: int, generator: Generator) -> Tensor:
    """Blanks a random rectangle in some of the images (Zhong et al., 2020).

    Area and logarithm of the aspect are uniform. A rectangle longer than a side is cut to it,
    where the original draws again.

    Args:
        images: uint8 (B, C, H, W).
        probability: Of each image to be changed.
        fill: Value of the rectangle.
        generator: Where images and rectangles are drawn from.

    Returns:
        Images of the same shape and type.
    """
    if not probability:
        return images
    count, _, height, width = images.shape
    drawn = torch.rand((5, count), generator=generator, device=images.device)
    area = height * width * _between(*ERASED, drawn[0])
    aspect = _between(math.log(ASPECT[0]), math.log(ASPECT[1]), drawn[1]).exp()
    rows = _anywhere((area * aspect).sqrt(), height, drawn[2])
    columns = _anywhere((area / aspect).sqrt(), width, drawn[3])
    chosen = (drawn[4] < probability)[:, None]
    box = (rows & chosen)[:, None, :, None] & columns[:, None, None, :]
    return torch.where(box, fill, images)


def mixup(
    images: Tensor, targets: Tensor, alpha: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Blends each image and its target with another's (Zhang et al., 2018).

    Args:
        images: Float (B, C, H, W).
        targets: Class probabilities (B, classes).
        alpha: Of the Beta distribution that each image's own share is drawn from, above 0.
        generator: Where shares and partners are drawn from.

    Returns:
        Images and targets of the same shapes.
    """
    share = beta(alpha, len(images), generator)
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    return (
        torch.lerp(images[partner], images, share[:, None, None, None]),
        torch.lerp(targets[partner], targets, share[:, None]),
    )


def cutmix(
    images: Tensor, targets: Tensor, alpha: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Pastes a box of another image into each one (Yun et al., 2019).

    The box has the image's aspect, an area of one minus a share that is drawn from a Beta
    distribution, and a uniform centre. What lies outside the image is cut off; the targets are
    mixed by the area that is left.

    Args:
        images: Float (B, C, H, W).
        targets: Class probabilities (B, classes).
        alpha: Of the Beta distribution that each image's own share is drawn from, above 0.
        generator: Where shares, centres and partners are drawn from.

    Returns:
        Images and targets of the same shapes.
    """
    count, _, height, width = images.shape
    side = (1 - beta(alpha, count, generator)).sqrt()
    centre = torch.rand((2, count), generator=generator, device=images.device)
    rows = _around(side, centre[0], height)
    columns = _around(side, centre[1], width)
    partner = torch.randperm(count, generator=generator, device=images.device)
    box = rows[:, None, :, None] & columns[:, None, None, :]
    share = 1 - rows.sum(1) * columns.sum(1) / (height * width)
    return (
        torch.where(box, images[partner], images),
        torch.lerp(targets[partner], targets, share[:, None]),
    )


def _around(side: Tensor, centre: Tensor, length: int) -> Tensor:
    """Which of `length` pixels lie in each box (B, length), side and centre in shares of it."""
    half = (side * length).int() // 2
    middle = (centre * length).int()
    return _within(middle - half, middle + half, length)


def _anywhere(side: Tensor, length: int, place: Tensor) -> Tensor:
    """Which of `length` pixels lie in each box (B, length), its place a share of all places."""
    whole = side.round().clamp(1, length)
    start = (place * (length - whole + 1)).floor()
    return _within(start, start + whole, length)


def _within(start: Tensor, end: Tensor, length: int) -> Tensor:
    pixels = torch.arange(length, device=start.device)
    return (pixels >= start[:, None]) & (pixels < end[:, None])


def _between(low: float, high: float, share: Tensor) -> Tensor:
    return low + (high - low) * share


def beta(alpha: float, count: int, generator: Generator) -> Tensor:
    """Draws from Beta(alpha, alpha), float32 (count,), on the generator's device.

    X / (X + Y) with X and Y from Gamma(alpha), as the sigmoid of log X - log Y: for a small alpha
    both underflow, so X is drawn as Gamma(alpha + 1) * U^(1 / alpha) (Marsaglia and Tsang, 2000)
    and never leaves the logarithm.
    """
    shape = torch.full((2, count), alpha + 1, device=generator.device)
    gamma = torch._standard_gamma(shape, generator=generator).log()
    uniform = (1 - torch.rand((2, count), generator=generator, device=generator.device)).log()
    return torch.sigmoid(gamma[0] - gamma[1] + (uniform[0] - uniform[1]) / alpha)
