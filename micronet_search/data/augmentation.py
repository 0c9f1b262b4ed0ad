"""Random changes to a batch of training images, each image by itself, all on their device.

Images have the shape (B, C, H, W), targets are class probabilities (B, classes), and `fill` is the
value of new and erased pixels. Results have the shapes and types of the arguments. Every function
draws from its generator alone, on the images' device, and none waits for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

ERASED = (0.02, 0.33)
"""Smallest and largest share of an image that is erased (Zhong et al., 2020)."""
ASPECT = (0.3, 3.3)
"""Smallest and largest ratio of height to width of the erased rectangle."""


def crop_and_flip(
    images: Tensor, padding: int, flip: bool, fill: int, generator: Generator
) -> Tensor:
    """Crops a window of the old size from each image with a border of `padding` pixels around it.

    With `flip`, half of the images are mirrored left to right.
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
    """Fills a random rectangle in some uint8 images, each with a probability (Zhong et al., 2020).

    The area and the logarithm of the aspect are uniform. A rectangle longer than a side of the
    image is cut to the side, where the original draws again.
    """
    if not probability:
        return images
    count, _, height, width = images.shape
    drawn = torch.rand((5, count), generator=generator, device=images.device)
    area = height * width * _between(*ERASED, drawn[0])
    aspect = _between(math.log(ASPECT[0]), math.log(ASPECT[1]), drawn[1]).exp()
    rows = _inside((area * aspect).sqrt(), drawn[2], height)
    columns = _inside((area / aspect).sqrt(), drawn[3], width)
    chosen = (drawn[4] < probability)[:, None]
    return torch.where(_box(rows & chosen, columns), fill, images)


def mixup(
    images: Tensor, targets: Tensor, alpha: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Blends each float image and its target with those of another image (Zhang et al., 2018).

    Each image's own share is drawn from Beta(alpha, alpha), with alpha above 0.
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
    """Pastes a box of another image into each float image (Yun et al., 2019).

    The box has the aspect of the image and a uniform centre. Its share of the area is one minus a
    draw from Beta(alpha, alpha), with alpha above 0. The part of the box outside the image is cut
    off, and the targets are mixed by the area that remains.
    """
    count, _, height, width = images.shape
    side = (1 - beta(alpha, count, generator)).sqrt()
    centre = torch.rand((2, count), generator=generator, device=images.device)

    def around(centre: Tensor, length: int) -> Tensor:
        half, middle = (side * length).int() // 2, (centre * length).int()
        return _interval(middle - half, middle + half, length)

    rows, columns = around(centre[0], height), around(centre[1], width)
    partner = torch.randperm(count, generator=generator, device=images.device)
    share = 1 - rows.sum(1) * columns.sum(1) / (height * width)
    return (
        torch.where(_box(rows, columns), images[partner], images),
        torch.lerp(targets[partner], targets, share[:, None]),
    )


def beta(alpha: float, count: int, generator: Generator) -> Tensor:
    """Draws float32 (count,) from Beta(alpha, alpha), on the generator's device.

    A draw is X / (X + Y) with X and Y from Gamma(alpha), computed as the sigmoid of
    log X - log Y. Both underflow for a small alpha, so X is drawn as
    Gamma(alpha + 1) * U^(1 / alpha) (Marsaglia and Tsang, 2000) and stays a logarithm throughout.
    """
    shape = torch.full((2, count), alpha + 1, device=generator.device)
    gamma = torch._standard_gamma(shape, generator=generator).log()
    uniform = (1 - torch.rand((2, count), generator=generator, device=generator.device)).log()
    return torch.sigmoid(gamma[0] - gamma[1] + (uniform[0] - uniform[1]) / alpha)


def _between(low: float, high: float, share: Tensor) -> Tensor:
    return low + (high - low) * share


def _inside(side: Tensor, place: Tensor, length: int) -> Tensor:
    """Marks the pixels (B, length) of intervals; a place, 0 to 1, is a share of all starts."""
    whole = side.round().clamp(1, length)
    start = (place * (length - whole + 1)).floor()
    return _interval(start, start + whole, length)


def _interval(start: Tensor, end: Tensor, length: int) -> Tensor:
    pixels = torch.arange(length, device=start.device)
    return (pixels >= start[:, None]) & (pixels < end[:, None])


def _box(rows: Tensor, columns: Tensor) -> Tensor:
    """Marks the pixels (B, 1, H, W) whose rows (B, H) and columns (B, W) are marked."""
    return rows[:, None, :, None] & columns[:, None, None, :]
