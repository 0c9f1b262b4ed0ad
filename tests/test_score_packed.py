"""The cost of a network in a packed file: that of its candidate, measured on its tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from exports import COLOUR, DENSENET, EFFICIENTNET, RESNET, random_shipped, widths

from micronet_search import build
from micronet_search.export import packed
from micronet_search.scoring.packed import measure
from micronet_search.scoring.rules import scores


@pytest.mark.parametrize(
    ("network", "quantization", "parts"),
    [
        pytest.param(DENSENET, None, {}, id="densenet, 32"),
        pytest.param(DENSENET, widths(16, 16), {"pruning": {"sparsity": 0.5}}, id="densenet, 16"),
        pytest.param(RESNET, widths(1, 4), {"pruning": {"sparsity": 0.7}}, id="resnet, ternary"),
        pytest.param(RESNET, widths(3, 5), {"structured_pruning": {"ratio": 0.3}}, id="resnet, 3"),
        pytest.param(
            EFFICIENTNET, widths(6, 8) | {"mode": "dynamic"}, {}, id="efficientnet, dynamic"
        ),
        pytest.param(
            RESNET, widths(4, 8), {"factorization": {"kind": "tucker", "ratio": 0.5}}, id="factors"
        ),
    ],
)
def test_a_packed_file_scores_what_its_network_does(
    tmp_path: Path, network: dict[str, Any], quantization: Any, parts: dict[str, Any]
) -> None:
    shipped = random_shipped(quantization, COLOUR, network, **parts)
    (tmp_path / "model.mnz").write_bytes(packed.pack(shipped))
    found = measure(tmp_path / "model.mnz")
    expected = build.predict(shipped.candidate).measured(shipped.tensors)
    assert scores(found) == scores(expected)
    assert (found.storage_bits, found.macs) == (expected.storage_bits, expected.macs)
    rows = [(row.kind, row.bits, row.macs, row.outputs, row.window) for row in found.layers]
    assert rows == [(r.kind, r.bits, r.macs, r.outputs, r.window) for r in expected.layers]
