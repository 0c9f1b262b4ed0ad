"""The teacher of a trial, as the trial uses it."""

from __future__ import annotations

from torch import Tensor, nn

from micronet_search import shipped
from micronet_search.data.splits import Normalization


class Teacher(nn.Module):
    """A shipped network that takes images as the student's dataset normalises them."""

    def __init__(self, content: bytes, normalization: Normalization) -> None:
        """Reads the teacher.

        Args:
            content: Its model file.
            normalization: That of the student's images.

        Raises:
            ValueError: The file is not the model of a trial.
        """
        super().__init__()
        self.network = shipped.unpack(content)
        self.normalization = normalization

    def forward(self, image: Tensor) -> Tensor:
        """Normalised images (N, C, H, W) to logits (N, classes)."""
        logits: Tensor = self.network(image / self.normalization.scale + self.normalization.mean)
        return logits
