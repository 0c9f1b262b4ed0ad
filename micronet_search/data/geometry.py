"""Images moved and turned, each by a matrix of its own, all on their device."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, grid_sample


def rotate(images: Tensor, largest: float, fill: int, generator: Generator) -> Tensor:
    """Turns each uint8 image (B, C, H, W) about its centre, with bilinear sampling.

    Angles are uniform from minus the largest to the largest, in degrees. Pixels from outside the
    image get the value `fill`.
    """
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
    """Fetches each pixel from another place of its image.

    Args:
        images: uint8 (B, C, H, W).
        matrices: (B, 2, 3). They map a place (x, y, 1) in the result to the place in the image
            that it is fetched from, in pixels from the centre, right and down.
        fill: Value of pixels from outside the image.
        mode: Whether to take the nearest pixel or to mix four.
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
