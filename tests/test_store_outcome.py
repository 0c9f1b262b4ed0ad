"""What is read of a trial's end has all that the commands show of it."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from micronet_search.store.outcome import read_outcome

FINE = {
    "state": "complete",
    "started": 1.0,
    "ended": 2.0,
    "device": "cpu",
    "accuracy": 0.9,
    "scores": {"imt": {"score": 0.1, "parameters": 0.05, "operations": 0.05}},
    "parameters": 10,
    "nonzeros": 9,
    "macs": 100,
    "storage_bits": 80,
    "curve": [
        {"epoch": 1, "stage": "fit", "loss": 2.0, "accuracy": 0.5, "seconds": 1.0, "ended": 2.0}
    ],
}


def written(folder: Path, tree: Any) -> Path:
    path = folder / "outcome.json"
    path.write_text(json.dumps(tree))
    return path


def test_an_outcome_with_all_that_is_shown(tmp_path: Path) -> None:
    assert read_outcome(written(tmp_path, FINE), "imt").macs == 100
    failed = {name: FINE[name] for name in ("started", "ended", "device")} | {"state": "failed"}
    assert read_outcome(written(tmp_path, failed), "imt").macs is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scores": {}}, "found a complete trial without the imt score"),
        ({"parameters": None}, "found a complete trial without parameters"),
        ({"state": "stopped", "macs": None}, "found a stopped trial without macs"),
        ({"storage_bits": None}, "found a complete trial without storage_bits"),
        ({"accuracy": 1.5}, "accuracy"),
        ({"accuracy": math.nan}, "accuracy"),
        ({"ended": math.inf}, "ended"),
        ({"scores": {"imt": {"score": math.nan, "parameters": 1, "operations": 1}}}, "score"),
        ({"curve": [{"epoch": 1}]}, "curve.0"),
        ({"more": 1}, "more"),
    ],
)
def test_an_outcome_that_is_none(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    path = written(tmp_path, FINE | change)
    with pytest.raises(ValueError, match="found") as error:
        read_outcome(path, "imt")
    (line,) = str(error.value).splitlines()
    assert line.startswith(f"{path}: found ")
    assert expected in line
