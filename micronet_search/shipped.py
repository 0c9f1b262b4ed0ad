"""The network that a trial ships, read back from its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.config.candidate import Candidate
from micronet_search.data.images import Normalization
from micronet_search.store import checkpoint

MODEL = "model.safetensors"


class Shipped(nn.Module):
    """A network that computes with its stored tensors, normalisation inside.

    Attributes:
        candidate: What it was made from.
        tensors: As stored.
        normalization: What it does to images first.
        network: The layers, whose input is normalised.
        plan: Their widths.
    """

    def __init__(
        self, candidate: Candidate, tensors: Mapping[str, Tensor], normalization: Normalization
    ) -> None:
        """Builds the candidate's network around the stored tensors, on the CPU."""
        super().__init__()
        self.candidate = candidate
        self.tensors = dict(tensors)
        self.normalization = normalization
        self.network, self.plan = build.compressed(candidate)
        stored.install(self.network, tensors)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """uint8 images (N, C, H, W), 0 to 255, to float32 logits (N, classes)."""
        logits: Tensor = self.network(self.normalization(image))
        return logits


def unpack(content: bytes) -> Shipped:
    """The network in a `model.safetensors` file.

    Raises:
        ValueError: The file is damaged, or holds something else.
    """
    tensors, meta = checkpoint.unpack(content)
    if not isinstance(meta, dict) or not meta.keys() >= {"candidate", "normalization"}:
        raise ValueError("found a file of tensors without a candidate, expected a trial's model")
    try:
        candidate = Candidate.model_validate(meta["candidate"])
        return Shipped(candidate, tensors, Normalization(**meta["normalization"]))
    except (ValidationError, KeyError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"the model is not one of this version: {reason}") from None


def load(path: str | Path) -> Shipped:
    """The PyTorch network of an export or of a complete trial, ready for uint8 images.

    Args:
        path: Its folder, or the file `model.safetensors`.

    Raises:
        ValueError: There is no such file, it is damaged, or it holds something else.
    """
    path = Path(path)
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"found no {file}, expected the model of an export or of a complete trial")
    try:
        return unpack(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
