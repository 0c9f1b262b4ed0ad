"""The network that a trial ships, as a file and read back from it."""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from pydantic import ValidationError
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.config.candidate import Candidate
from micronet_search.config.loading import describe, dotted
from micronet_search.config.validation import validation_problems
from micronet_search.data.splits import Normalization
from micronet_search.store import checkpoint
from micronet_search.store.paths import MODEL_FILE

MAX_BYTES = 2**30


class Shipped(nn.Module):
    """A network that computes with the stored tensors; `plan` has the widths of its layers."""

    def __init__(
        self, candidate: Candidate, tensors: Mapping[str, Tensor], normalization: Normalization
    ) -> None:
        """Builds the candidate's network on the CPU; other tensors are a ValueError."""
        super().__init__()
        _check(candidate, tensors)  # before it is built: a page of text can name a giant
        self.candidate = candidate
        self.tensors = dict(tensors)
        self.normalization = normalization
        self.network, self.plan = build.compressed(candidate)
        stored.install(self.network, tensors)
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        """Computes float32 logits (N, classes) from uint8 images (N, C, H, W), 0 to 255."""
        logits: Tensor = self.network(self.normalization(image))
        return logits


def pack(
    candidate: Candidate, tensors: Mapping[str, Tensor], normalization: Normalization
) -> bytes:
    """Returns the model file of a network with these stored tensors."""
    meta = {"candidate": candidate.model_dump(mode="json"), "normalization": asdict(normalization)}
    return checkpoint.pack(dict(tensors), meta)


def unpack(content: bytes) -> Shipped:
    """Reads the network in a model file; one that is damaged is a ValueError."""
    tensors, meta = checkpoint.unpack(content)
    if not isinstance(meta, dict) or not meta.keys() >= {"candidate", "normalization"}:
        raise ValueError("found a file of tensors without a candidate, expected a trial's model")
    try:
        candidate = Candidate.model_validate(meta["candidate"])
    except ValidationError as error:
        ((key, message), *_) = validation_problems(error, Candidate)
        reason = f"{dotted(key)}: {message}" if key else message
        raise ValueError(f"the model is not one of this version: {reason}") from None
    match meta["normalization"]:
        case {"mean": int(mean), "scale": int() | float() as scale, **rest} if not rest:
            if 0 <= mean <= 255 and 0 < scale < math.inf:
                return Shipped(candidate, tensors, Normalization(mean, scale))
    raise ValueError(
        f"found the normalization {describe(meta['normalization'])}, expected a mean and a scale"
    )


def _check(candidate: Candidate, tensors: Mapping[str, Tensor]) -> None:
    # a layer has one tensor at least, and it takes long to describe thousands of layers
    short = len(tensors) < sum(candidate.network.layers)
    compare(tensors, {} if short else build.layout(candidate))


def compare(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuses tensors with other names, shapes or types than expected, as a ValueError."""
    if others := expected.keys() ^ tensors.keys():
        name = min(others)
        found = f"no {name}" if name in expected else f"the tensor {name}"
        raise ValueError(f"found {found}, expected the tensors of the candidate's network")
    for name, tensor in tensors.items():
        kind, wanted = ((tuple(t.shape), t.dtype) for t in (tensor, expected[name]))
        if kind != wanted:
            raise ValueError(f"found {name} of {kind[0]}, {kind[1]}, expected {wanted}")


def load(path: str | Path) -> Shipped:
    """Reads the PyTorch network of an export or of a complete trial, ready for uint8 images.

    The path is that of its folder, or of its `model.safetensors`. A file that is missing, damaged
    or of something else is a ValueError.
    """
    path = Path(path)
    file = path / MODEL_FILE if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"found no {file}, expected the model of an export or of a complete trial")
    size = file.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{file}: found {size:,} bytes, expected at most {MAX_BYTES:,}")
    try:
        return unpack(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
