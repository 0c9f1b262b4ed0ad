"""Sessions of ONNX Runtime on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from micronet_search.runtime import ExportError

_THREADS = 8


def start(content: bytes) -> Any:
    """Starts a session of ONNX Runtime as a user does, but for the threads and the log."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = min(torch.get_num_threads(), _THREADS)
    options.log_severity_level = 3
    with _reported():
        return onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])


def run(session: Any, images: Tensor) -> Tensor:
    """Returns the logits, float32 (N, classes), of one batch of uint8 images (N, C, H, W)."""
    with _reported():
        (logits,) = session.run(["logits"], {"image": np.ascontiguousarray(images.numpy())})
    return torch.from_numpy(logits)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # ONNX Runtime's classes share no other base
        version = onnxruntime.__version__
        raise ExportError(f"ONNX Runtime {version} does not run the file: {error}") from error
