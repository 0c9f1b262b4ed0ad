"""The program of `torch.export`: the same logits, and no need for this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from exports import DENSENET, DIGITS, EFFICIENTNET, RESNET, random_images, random_shipped, widths

from micronet_search.data.splits import Images
from micronet_search.export import program

RUN = """
import sys
import numpy as np
import torch

network = torch.export.load(sys.argv[1]).module()
images = torch.from_numpy(np.load(sys.argv[2]))
np.save(sys.argv[3], network(images).detach().numpy())
assert "micronet_search" not in sys.modules
"""


@pytest.mark.parametrize(
    ("network", "quantization", "parts"),
    [
        (DENSENET, widths(4, 8), {}),
        (RESNET, widths(1, 3), {"pruning": {"sparsity": 0.5}}),
        (EFFICIENTNET, widths(2, 8) | {"mode": "dynamic"}, {}),
        (DENSENET, widths(16, 16), {"structured_pruning": {"ratio": 0.3}}),
        (RESNET, None, {"factorization": {"kind": "tucker", "ratio": 0.5}}),
    ],
)
def test_it_computes_what_the_network_does(
    tmp_path: Path, network: dict[str, Any], quantization: Any, parts: dict[str, Any]
) -> None:
    shipped = random_shipped(quantization, network=network, **parts)
    images = random_images(DIGITS, 33)
    with torch.no_grad():
        expected = shipped(images).numpy()
    split = Images(images[:7], torch.zeros(7, dtype=torch.int64))
    (tmp_path / "model.pt2").write_bytes(program.write(shipped, split))
    np.save(tmp_path / "images.npy", images.numpy())
    files = [str(tmp_path / name) for name in ("model.pt2", "images.npy", "logits.npy")]
    subprocess.run([sys.executable, "-c", RUN, *files], check=True, cwd=tmp_path)
    np.testing.assert_allclose(np.load(files[-1]), expected, rtol=1e-4, atol=1e-4)
