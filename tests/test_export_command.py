"""`micronet-search export` as a shell sees it: what it leaves, and what it says where it cannot."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from studies import Command, Fault


@pytest.mark.parametrize(
    ("place", "error"),
    [
        ("onnx.checker:check_model", onnx.checker.ValidationError),
        ("onnxruntime:InferenceSession", RuntimeError),
        ("onnxruntime:InferenceSession.run", RuntimeError),
    ],
    ids=["not valid", "no session", "no run"],
)
def test_a_failed_export_is_one_line_and_leaves_nothing(
    finished: Path, tmp_path: Path, place: str, error: type[Exception]
) -> None:
    fault = Fault(place, 1, error("no kernel for it\nand more"))
    arguments = ("export", "tiny", "--best", "--root", finished)
    done = Command(*arguments, cwd=tmp_path, kill=fault).wait()
    assert done.code == 1, done
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "no kernel for it" in done.err
    assert done.out == ""
    assert not list(tmp_path.iterdir())
