import csv
import errno
import io
import math
import os
from pathlib import Path

import numpy as np
import pytest

from micronet_search.store import files

FULL = OSError(errno.ENOSPC, "No space left on device")


def test_writing_makes_the_folder_and_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    files.write_bytes(path, b"old")
    files.write_text(path, "neu: ü")

    assert path.read_bytes() == "neu: ü".encode()
    assert os.listdir(path.parent) == ["file"]


def test_a_private_file_is_its_owners_alone(tmp_path: Path) -> None:
    files.write_text(tmp_path / "file", "for all")
    ordinary = (tmp_path / "file").stat().st_mode & 0o777
    files.write_text(tmp_path / "file", "for one", private=True)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    files.write_text(tmp_path / "file", "for all")
    assert (tmp_path / "file").stat().st_mode & 0o777 == ordinary != 0o600


def test_json_comes_back_as_it_was(tmp_path: Path) -> None:
    tree = {"loss": [0.1, math.inf, -0.0], "reason": None, "name": "ü"}
    files.write_json(tmp_path / "file", tree)

    assert files.read_json(tmp_path / "file") == tree


def test_damaged_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text('{"state": ')
    with pytest.raises(ValueError, match=r"outcome\.json is damaged, expected JSON") as error:
        files.read_json(tmp_path / "outcome.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("old", [None, b"old"])
def test_a_failed_write_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, old: bytes | None
) -> None:
    path = tmp_path / "file"
    if old is not None:
        path.write_bytes(old)

    def fail(*_: object) -> None:
        raise FULL

    with monkeypatch.context() as patch:
        patch.setattr(os, step, fail)
        with pytest.raises(OSError, match="No space left"):
            files.write_bytes(path, b"new")

    assert os.listdir(tmp_path) == ([] if old is None else ["file"])
    assert old is None or path.read_bytes() == old


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    (tmp_path / f".file.{os.getpid()}.tmp").symlink_to("/dev/full")

    with pytest.raises(OSError, match="No space left"):
        files.write_bytes(path, b"new" * 100_000)

    assert os.listdir(tmp_path) == ["file"]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            files.write_bytes(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
    finally:
        tmp_path.chmod(0o700)


# --- tables ---


def test_what_is_written_is_read_back_as_it_was() -> None:
    """As text that any program reads: neither digits nor columns are lost."""
    generator = np.random.default_rng(0)
    values = [float(value) for value in 10.0 ** generator.uniform(-300, 300, 1000)]
    rows = [
        {"number": i, "value": value, "name": f'a "{i}", b', "large": 2**53 + i}
        for i, value in enumerate([0.1, 1 / 3, 1e-5, 5e-324, -math.inf, *values])
    ]
    found = list(csv.DictReader(io.StringIO(files.to_csv(rows))))
    assert [list(row) for row in found] == [list(row) for row in rows]
    read = [
        {
            "number": int(row["number"]),
            "value": float(row["value"]),
            "name": row["name"],
            "large": int(row["large"]),
        }
        for row in found
    ]
    assert read == rows


def test_a_loss_that_is_no_number_stands_as_such() -> None:
    assert files.to_csv([{"epoch": 1, "loss": math.nan}]) == "epoch,loss\n1,nan\n"


def test_a_table_without_rows_has_its_head() -> None:
    assert files.to_csv([], ["trial", "score"]) == "trial,score\n"
