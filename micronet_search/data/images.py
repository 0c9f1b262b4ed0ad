"""Images with their labels, and how 8-bit values become a network's input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """One split of a dataset.

    Attributes:
        images: uint8 (N, C, H, W), 0 to 255.
        labels: int64 (N,), 0 to classes - 1.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Images:
        """The same images on a device."""
        return Images(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Normalization:
    """`x = (image - mean) * scale`, with one mean and one scale for all channels.

    The mean is an integer, so that the image minus the mean still is an integer and zero padding
    is exactly a pixel of the mean's value.

    Attributes:
        mean: Subtracted first, 0 to 255.
        scale: One over the standard deviation of the pixels.
    """

    mean: int
    scale: float

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """The normalization of uint8 images, over all their pixels and channels."""
        counts = torch.bincount(images.flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.float64, device=images.device)
        mean = (counts @ values / counts.sum()).item()
        deviation = (counts @ (values - mean) ** 2 / counts.sum()).sqrt().item()
        return cls(round(mean), 1.0 / deviation if deviation else 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        """Float32 of the same shape from uint8 images."""
        return (images.float() - self.mean) * self.scale
