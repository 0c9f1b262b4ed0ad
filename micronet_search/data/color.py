"""Colours changed at random, each image by a factor of its own, all on their device.

The changes are torchvision's of the same names. Images are float32 (B, C, H, W) from 0 to 255,
and so are the results; a factor or turn is (B, 1, 1, 1).
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from micronet_search.config.training import ColorJitter


def jitter(images: Tensor, config: ColorJitter, generator: Generator) -> Tensor:
    """Changes brightness, contrast, saturation and hue, in this order.

    Args:
        images: uint8 (B, C, H, W).
        config: The largest changes; a factor is uniform around 1, a turn around 0.
        generator: Where they are drawn from.

    Returns:
        Images of the same shape and type.
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
    """Blends with black."""
    return (images * factor).clamp_(0, 255)


def contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with the mean grey of the image."""
    return _blend(grey(images).mean((1, 2, 3), keepdim=True), images, factor)


def saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blends each pixel with its grey; leaves all but three channels as they are."""
    return _blend(grey(images), images, factor) if images.shape[1] == 3 else images


def sharpness(images: Tensor, factor: Tensor) -> Tensor:
    """Blends with a blur of 3 x 3 pixels, 5/13 in the middle; leaves the border as it is."""
    if min(images.shape[2:]) < 3:
        return images
    inner = images[:, :, 1:-1, 1:-1]
    blur = (9 * torch.nn.functional.avg_pool2d(images, 3, stride=1) + 4 * inner) / 13
    changed = images.clone()
    changed[:, :, 1:-1, 1:-1] = _blend(blur, inner, factor)
    return changed


def hue(images: Tensor, turns: Tensor) -> Tensor:
    """Turns the hue; leaves all but three channels as they are.

    To HSV and back (Smith, 1978), without the branches of the way back: with the hue `h` in sixths,
    a channel is `V - V S clamp(min(k, 4 - k), 0, 1)`, where `k = (n + h) mod 6` and n is 5 for red,
    3 for green and 1 for blue.
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
    """Stretches each channel over all values; leaves those of one value as they are."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, 255 * (images - low) / (high - low), images)


def grey(images: Tensor) -> Tensor:
    """(B, 1, H, W): the luma of three channels (ITU-R BT.601), the mean of any other number."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.chunk(3, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(degenerate, images, factor).clamp_(0, 255)
