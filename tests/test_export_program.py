"""The program of `torch.export`: the same logits, and no need for this package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from exports import DENSENET, DIGITS, EFFICIENTNET, RESNET, random_images, random_shipped, widths

from micronet_search.data.splits import Images
from micronet_search.export import program

RUN = """
import sys
import numpy as np
import torch

images = torch.from_numpy(np.load("images.npy"))
for name in sys.argv[1:]:
    network = torch.export.load(f"{name}.pt2").module()
    np.save(f"{name}.npy", network(images).detach().numpy())
assert "micronet_search" not in sys.modules
"""
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    "static": (DENSENET, widths(4, 8), {}),
    "dynamic": (EFFICIENTNET, widths(1, 8) | {"mode": "dynamic"}, {"pruning": {"sparsity": 0.5}}),
    "half": (RESNET, widths(16, 16), {"factorization": {"kind": "tucker", "ratio": 0.5}}),
}


def test_programs_compute_what_their_networks_do(tmp_path: Path) -> None:
    images, expected = random_images(DIGITS, 33), {}
    split = Images(images[:7], torch.zeros(7, dtype=torch.int64))
    for name, (network, quantization, parts) in NETWORKS.items():
        shipped = random_shipped(quantization, network=network, **parts)
        (tmp_path / f"{name}.pt2").write_bytes(program.write(shipped, split))
        with torch.no_grad():
            expected[name] = shipped(images).numpy()
    np.save(tmp_path / "images.npy", images.numpy())
    subprocess.run([sys.executable, "-c", RUN, *NETWORKS], check=True, cwd=tmp_path)
    for name, logits in expected.items():
        found = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(found, logits, rtol=1e-4, atol=1e-4, err_msg=name)
