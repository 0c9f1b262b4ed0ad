"""Colours changed at random, each image by a factor of its own, all on their device.

The changes are torchvision's of the same names. Images and results are float32 (B, C, H, W) from
0 to 255. Factors and turns have the shape (B, 1, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from micronet_search.config.training import ColorJitter


def jitter(images: Tensor, config: ColorJitter, generator: Generator) -> Tensor:
    """Changes brightness, contrast, saturation and hue of uint8 images, in this order.

    Factors are uniform around 1 and turns of the hue uniform around 0, within the bounds of the
    configuration.
    """
    if config == ColorJitter():
        return images
    drawn = torch.rand((4, len(images), 1, 1, 1), generator=generator, device=images.device)
    moves = 2 * drawn - 1
    changed = images.float()
    if config.brightness:
        changed = brightness(changed, 1 + config.brightness * moves[0])
    if config.contrast:
        changed = contrast(changed, 1 + config.contrast * moves[1])
    if config.saturation:
        changed = saturation(changed, 1 + config.saturation * moves[2])
    if config.hue:
        changed = hue(changed, config.hue * moves[3])
    return changed.round().byte()


def brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with black."""
    return (images * factor).clamp_(0, 255)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with the mean of its grey."""
    return _blend(grey(images).mean((1, 2, 3), keepdim=True), images, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each pixel with its grey. Images without three channels stay as they are."""
    return _blend(grey(images), images, factor) if images.shape[1] == 3 else images


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each image with its blur of 3 x 3 pixels, except for the border.

    The pixel itself weighs 5/13 in the blur, each neighbour 1/13.
    """
    if min(images.shape[2:]) < 3:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    blur = (9 * torch.nn.functional.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    changed = images.clone()
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


def grey(images: Tensor) -> Tensor:
    """Returns the luma (B, 1, H, W) of three channels (ITU-R BT.601), or the mean of any others."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.chunk(3, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(degenerate, images, factor).clamp_(0, 255)
