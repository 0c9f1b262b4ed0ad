"""`micronet-search export` as a shell sees it: what it leaves, and what it says where it cannot."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from studies import Command, Fault, cli, tiny, write


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


def test_another_study_of_the_same_name_is_not_overwritten(
    finished: Path, runs: Path, tmp_path: Path
) -> None:
    """Two studies of one name under two roots; each replaces its own exports alone."""
    sweep = write(tmp_path / "tiny.yaml", tiny(search__trials=1, search__seed=4))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    first, second = (("export", "tiny", "--trial", 0, "--root", root) for root in (finished, runs))
    assert cli(*first, cwd=tmp_path).code == 0
    path = tmp_path / "exports/tiny/0000"
    before = (path / "model.onnx").read_bytes()
    found = cli(*second, cwd=tmp_path).error
    assert f"found an export of 'tiny/0000' of another study in {path}, expected" in found
    assert "--to" in found
    assert (path / "model.onnx").read_bytes() == before
    assert cli(*first, cwd=tmp_path).code == 0
    assert cli(*second, "--to", "elsewhere", cwd=tmp_path).code == 0
    assert (tmp_path / "elsewhere/model.onnx").read_bytes() != before
    assert (path / "model.onnx").read_bytes() == before
