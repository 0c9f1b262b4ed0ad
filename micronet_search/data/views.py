"""Views of an image: what a random crop and a mirror make of it, told by numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from micronet_search.config.training import REACH

_SIDE = 2 * REACH + 1
VIEWS = 2 * _SIDE**2
"""The number of views whose padding is at most `REACH`: 25 windows, plain and mirrored."""


@dataclass(frozen=True, eq=False)
class Views:
    """A view of each image of a batch.

    Attributes:
        padding: Width of the border that is added to the images, in pixels.
        rows: First row of the window in the padded image, int64 (B, 1), 0 to twice the padding.
        columns: Its first column, likewise.
        mirrored: Whether the window is mirrored, bool (B, 1); None where none is.
    """

    padding: int
    rows: Tensor
    columns: Tensor
    mirrored: Tensor | None = None

    @classmethod
    def random(cls, count: int, padding: int, flip: bool, generator: Generator) -> Views:
        """Draws windows evenly, and mirrors half of them if asked."""
        device = generator.device
        if not padding and not flip:
            middle = torch.zeros((count, 1), dtype=torch.int64, device=device)
            return cls(0, middle, middle)
        drawn = torch.randint(2 * padding + 1, (2, count, 1), generator=generator, device=device)
        mirrored = None
        if flip:
            mirrored = torch.rand((count, 1), generator=generator, device=device) < 0.5
        return cls(padding, drawn[0], drawn[1], mirrored)

    @classmethod
    def numbered(cls, number: int, count: int, device: torch.device) -> Views:
        """Returns the view with a number, below `VIEWS`, of so many images."""
        mirrored, window = divmod(number, _SIDE**2)
        numbers = (*divmod(window, _SIDE), mirrored)
        row, column, flip = (torch.full((count, 1), each, device=device) for each in numbers)
        return cls(REACH, row, column, flip.bool())

    def numbers(self) -> Tensor:
        """Returns the number of each image's view, int64 (B,).

        Windows are counted row by row, the mirrored ones after the others. The padding is at most
        `REACH`; a narrower one has the windows in the middle.
        """
        assert self.padding <= REACH, self.padding
        inner = REACH - self.padding
        found = (self.rows + inner) * _SIDE + self.columns + inner
        if self.mirrored is not None:
            found = found + self.mirrored * _SIDE**2
        return found[:, 0]

    def cut(self, images: Tensor, fill: int) -> Tensor:
        """Returns the views of images (B, C, H, W), in their shape; the border is `fill`."""
        if not self.padding and self.mirrored is None:
            return images
        count, channels, height, width = images.shape
        padded = torch.nn.functional.pad(images, (self.padding,) * 4, value=fill)
        rows = self.rows + torch.arange(height, device=images.device)
        columns = self.columns + torch.arange(width, device=images.device)
        if self.mirrored is not None:
            columns = torch.where(self.mirrored, columns.flip(1), columns)
        pixels = rows[:, :, None] * (width + 2 * self.padding) + columns[:, None, :]
        index = pixels.view(count, 1, -1).expand(-1, channels, -1)
        return padded.flatten(2).gather(2, index).view(images.shape)
