"""Changes of colour and place, each image by a strength of its own, all on their device.

The operations are torchvision's of the same names. Changes of colour take and return float32
(B, C, H, W) from 0 to 255, and factors (B, 1, 1, 1).
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from micronet_search.config.training import ColorJitter

BINS = 31
"""Number of strengths of the policy, evenly spaced from 0 to 1."""

Operation = Callable[[Tensor, Tensor, int], Tensor]
"""Changes uint8 images (B, C, H, W) by strengths (B,) from -1 to 1, and fills with a value."""


def jitter(images: Tensor, config: ColorJitter, generator: Generator) -> Tensor:
    """Changes brightness, contrast, saturation and hue of uint8 images, in this order.

    Factors are uniform around 1 and turns of the hue around 0, within the configuration's bounds.
    """
    if config == ColorJitter():
        return images
    drawn = torch.rand((4, len(images), 1, 1, 1), generator=generator, device=images.device)
    changed = images.float()
    factors = {brightness: config.brightness, contrast: config.contrast}
    changes = factors | {saturation: config.saturation, hue: config.hue}
    for (change, bound), move in zip(changes.items(), 2 * drawn - 1, strict=True):
        if bound:
            changed = change(changed, bound * move if change is hue else 1 + bound * move)
    return changed.round().byte()


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with black."""
    return (images * factor).clamp_(0, 255)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with the mean of its grey."""
    return _blend(_grey(images).mean((1, 2, 3), keepdim=True), images, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each pixel with its grey. Images without three channels stay as they are."""
    return _blend(_grey(images), images, factor) if images.shape[1] == 3 else images


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image but its border with a blur: a pixel weighs 5/13, each neighbour 1/13."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    changed = images.clone()
    blur = (9 * avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    changed[:, :, 1:-1, 1:-1] = _blend(blur, inner, factor)
    return changed


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue. Images without three channels stay as they are.

    The colours go to HSV and back (Smith, 1978). The way back has no branches: with the hue `h` in
    sixths, a channel is `V - V S clamp(min(k, 4 - k), 0, 1)`, where `k = (n + h) mod 6` and n is 5
    for red, 3 for green and 1 for blue.
    """
    if images.shape[1] != 3:
        return images
    red, green, blue = images.chunk(3, dim=1)
    value = images.amax(1, keepdim=True)
    span = value - images.amin(1, keepdim=True)
    divisor = torch.where(span > 0, span, 1.0)
    from_green_or_blue = torch.where(
        value == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor
    )
    sixths = torch.where(value == red, (green - blue) / divisor, from_green_or_blue)
    offsets = torch.arange(5, 0, -2, device=images.device).view(1, 3, 1, 1)
    place = (offsets + sixths + 6 * turns).remainder(6)
    return value - span * torch.minimum(place, 4 - place).clamp_(0, 1)


def autocontrast(images: Tensor) -> Tensor:
    """Stretches each channel over all values. A channel of a single value stays as it is."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, 255 * (images - low) / (high - low), images)


def _grey(images: Tensor) -> Tensor:
    """Returns the luma (B, 1, H, W) of three channels (ITU-R BT.601), or the mean of any others."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.chunk(3, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(degenerate, images, factor).clamp_(0, 255)


def rotate(images: Tensor, largest: float, fill: int, generator: Generator) -> Tensor:
    """Turns each uint8 image about its centre, by an angle of at most `largest` degrees."""
    if not largest:
        return images
    drawn = torch.rand(len(images), generator=generator, device=images.device)
    return warp(images, turn(largest * (2 * drawn - 1)), fill, "bilinear")


def turn(degrees: Tensor) -> Tensor:
    """Returns matrices (B, 2, 3) for `warp` that turn images counter-clockwise by angles (B,)."""
    angle = torch.deg2rad(degrees)
    sine, cosine, zero = angle.sin(), angle.cos(), torch.zeros_like(angle)
    return torch.stack([cosine, -sine, zero, sine, cosine, zero], 1).view(-1, 2, 3)


def warp(
    images: Tensor, matrices: Tensor, fill: int, mode: Literal["nearest", "bilinear"]
) -> Tensor:
    """Fetches each pixel of uint8 images from another place; what lies outside is `fill`.

    The matrices (B, 2, 3) map a place (x, y, 1) in the result to the place in the image that it is
    fetched from, in pixels from the centre, right and down.
    """
    height, width = images.shape[2:]
    # affine_grid's places run from -1 to 1 over the image, whatever its sides
    shares = matrices.clone()
    shares[:, 0, 1] *= height / width
    shares[:, 1, 0] *= width / height
    shares[:, 0, 2] *= 2 / width
    shares[:, 1, 2] *= 2 / height
    grid = affine_grid(shares, list(images.shape), align_corners=False)
    # grid_sample takes what is outside for zero
    moved = grid_sample(images.float() - fill, grid, mode=mode, align_corners=False)
    return moved.add_(fill).round_().byte()


def policy_counts(batches: int, size: int, generator: Generator) -> list[list[int]]:
    """Draws how many of the `size` images of each batch get each of `OPERATIONS`.

    `apply_policy` draws which ones. All batches are drawn at once: the host waits for the numbers.
    """
    device = generator.device
    drawn = torch.randint(len(OPERATIONS), (batches, size), generator=generator, device=device)
    numbers = torch.arange(len(OPERATIONS), device=device)
    found: list[list[int]] = (drawn[:, :, None] == numbers).sum(1).tolist()
    return found


def apply_policy(images: Tensor, counts: Sequence[int], fill: int, generator: Generator) -> Tensor:
    """Applies each of `OPERATIONS` to as many of the uint8 images as `counts` says."""
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


def _shear(images: Tensor, strength: Tensor, fill: int, *, axis: int) -> Tensor:
    slope = 0.99 * strength
    matrices = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    matrices[:, axis, 1 - axis] = slope
    # torchvision shears about the upper left corner of the image, and `warp` about its centre
    matrices[:, axis, 2] = slope * images.shape[2 + axis] / 2
    return warp(images, matrices, fill, "nearest")


def _translate(images: Tensor, strength: Tensor, fill: int, *, axis: int) -> Tensor:
    matrices = torch.eye(2, 3, device=images.device).repeat(len(images), 1, 1)
    # at most a seventh of the side, which torchvision's 32 pixels are of 224
    matrices[:, axis, 2] = -(strength * images.shape[3 - axis] / 7).trunc()
    return warp(images, matrices, fill, "nearest")


def _recolor(
    images: Tensor, strength: Tensor, fill: int, *, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    factor = (1 + 0.99 * strength).view(-1, 1, 1, 1)
    return change(images.float(), factor).round().byte()


def _posterize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    dropped_bits = (6 * strength.abs()).round().byte().view(-1, 1, 1, 1)
    return images >> dropped_bits << dropped_bits


def _solarize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    threshold = 255 * (1 - strength.abs()).view(-1, 1, 1, 1)
    return torch.where(images >= threshold, 255 - images, images)


def _equalize(images: Tensor, strength: Tensor, fill: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    changed: Tensor = functional.equalize(images)
    return changed


OPERATIONS: dict[str, Operation] = {
    "Identity": lambda images, strength, fill: images,
    "ShearX": partial(_shear, axis=0),
    "ShearY": partial(_shear, axis=1),
    "TranslateX": partial(_translate, axis=0),
    "TranslateY": partial(_translate, axis=1),
    "Rotate": lambda images, strength, fill: warp(images, turn(135 * strength), fill, "nearest"),
    "Brightness": partial(_recolor, change=brightness),
    "Color": partial(_recolor, change=saturation),
    "Contrast": partial(_recolor, change=contrast),
    "Sharpness": partial(_recolor, change=sharpness),
    "Posterize": _posterize,
    "Solarize": _solarize,
    "AutoContrast": partial(_recolor, change=lambda images, factor: autocontrast(images)),
    "Equalize": _equalize,
}
"""TrivialAugment's operations, with the strengths of torchvision's `TrivialAugmentWide`."""
