"""How long a shipped network takes, in how much memory, beside the same network in floats."""

from typing import Any

import torch

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.runtime import onnx_model
from micronet_search.runtime.probe import probe
from micronet_search.shipped import Shipped

ONE, MANY = 1, 256
"""The sizes of the batches that are timed."""


def latency(shipped: Shipped) -> float:
    """Returns the milliseconds that ONNX Runtime takes for one image, with one thread.

    Raises:
        ExportError: ONNX Runtime does not run the network.
    """
    image = shipped.candidate.input
    shape = (image.channels, image.height, image.width)
    found: float = probe(onnx_model.write(shipped, {}), shape, (ONE,))[str(ONE)]["latency_ms"]
    return found


def measure(shipped: Shipped, content: bytes) -> dict[str, float]:
    """Measures the ONNX file of a network on this machine, and that of the network in floats.

    Returns:
        For one image and for a batch of 256, with one thread, `latency_ms` and `latency_256_ms`,
        `memory_bytes` and `memory_256_bytes` where the system tells them; and `onnx_bytes`. The
        same names behind `float_` are those of the candidate without quantization.

    Raises:
        ExportError: ONNX Runtime does not run one of them.
    """
    plain = onnx_model.write(in_floats(shipped), {})
    floats = {f"float_{name}": value for name, value in _figures(shipped, plain).items()}
    return _figures(shipped, content) | floats


def in_floats(shipped: Shipped) -> Shipped:
    """Returns the candidate's network without quantization, with weights at random."""
    tree = shipped.candidate.model_dump(mode="json") | {"quantization": None}
    candidate = Candidate.model_validate(tree)
    layout = build.layout(candidate)
    tensors = {name: torch.randn(t.shape).to(t.dtype) for name, t in layout.items()}
    return Shipped(candidate, tensors, shipped.normalization)


def _figures(shipped: Shipped, content: bytes) -> dict[str, float]:
    image = shipped.candidate.input
    shape = (image.channels, image.height, image.width)
    taken: dict[str, Any] = probe(content, shape, (ONE, MANY))
    one, many = taken[str(ONE)], taken[str(MANY)]
    found = {
        "latency_ms": one["latency_ms"],
        "latency_256_ms": many["latency_ms"],
        "memory_bytes": one["memory_bytes"],
        "memory_256_bytes": many["memory_bytes"],
        "onnx_bytes": len(content),
    }
    return {name: value for name, value in found.items() if value is not None}
