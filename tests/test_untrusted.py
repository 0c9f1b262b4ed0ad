"""Files that were made to harm are refused within seconds, and with little memory."""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from limits import within
from pyarrow import parquet
from studies import tiny, write

from micronet_search.config.files import load_sweep
from micronet_search.config.loading import ConfigError, read_yaml
from micronet_search.data import DataError, shards
from micronet_search.data.pictures import Picture
from micronet_search.report import check
from micronet_search.store.files import read_json
from micronet_search.store.outcome import Outcome, read_outcomes
from micronet_search.store.paths import Root

PACKAGE = Path(__file__).parent.parent / "micronet_search"


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    with within(5, 500):
        yield


# --- parquet ---


def write_shard(path: Path, images: pa.Array, labels: pa.Array | None = None) -> Path:
    if labels is None:
        labels = pa.array(np.zeros(len(images), np.int64))
    table = pa.table({"img": images, "label": labels})
    dictionary = pa.types.is_dictionary(images.type)
    parquet.write_table(
        table, path, use_dictionary=dictionary, compression="zstd", store_schema=False
    )
    return path


def zeros() -> pa.Array:
    """A hundred megabytes in a few kilobytes."""
    return pa.array([bytes(1_000_000)] * 100, pa.binary())


def nulls() -> pa.Array:
    return pa.nulls(5_000_000, pa.binary())


def repeated() -> pa.Array:
    """Four megabytes, stored once and meant a million times."""
    number = pa.array(np.zeros(1_000_000, np.int32))
    return pa.DictionaryArray.from_arrays(number, pa.array([bytes(4_000_000)], pa.binary()))


def one_long() -> pa.Array:
    return pa.array([bytes(30_000_000)], pa.binary())


@pytest.mark.parametrize("make", [zeros, nulls, repeated, one_long])
def test_parquet_that_explodes(tmp_path: Path, make: Callable[[], pa.Array]) -> None:
    path = write_shard(tmp_path / "train-0.parquet", make())
    with pytest.raises(DataError, match=r"train-0.parquet has .* expected at most"):
        shards.read(path)


def test_a_parquet_file_that_claims_billions_of_rows(tmp_path: Path) -> None:
    """The footer's counts are changed; its lengths stay the same."""
    rows = 300_000  # three bytes as a varint, as many as the claim has
    path = write_shard(tmp_path / "train-0.parquet", pa.array([b"x"] * rows, pa.binary()))
    content = bytearray(path.read_bytes())
    size = int.from_bytes(content[-8:-4], "little")
    footer = content[-8 - size : -8].replace(zigzag(rows), zigzag(rows, most=True))
    assert footer != content[-8 - size : -8]
    path.write_bytes(bytes(content[: -8 - size]) + bytes(footer) + bytes(content[-8:]))
    with pytest.raises(DataError, match=r"train-0.parquet"):
        shards.read(path)


def zigzag(value: int, *, most: bool = False) -> bytes:
    """Thrift's integer, or the greatest one of as many bytes."""
    value, found = 2 * value, bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    if most:
        found = bytearray([0xFE, *[0xFF] * (len(found) - 2), 0x7F])
    return bytes(found)


@pytest.mark.parametrize("label", [100_000, 2**62, 2**64 - 1])
def test_labels_that_are_none(tmp_path: Path, label: int) -> None:
    labels = pa.array([0, label], pa.uint64())
    path = write_shard(tmp_path / "train-0.parquet", pa.array([b"a", b"b"]), labels)
    with pytest.raises(DataError, match=rf"has the label {label}, expected at most 99999"):
        shards.read(path)


def test_a_shard_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "train-0.parquet")
    with pytest.raises(DataError, match=r"train-0.parquet is no file, expected a parquet file"):
        shards.read(tmp_path / "train-0.parquet")


def test_any_encoding_of_a_few_small_images_is_read(tmp_path: Path) -> None:
    images = [bytes([i]) * 100 for i in range(50)]
    for encoding in ("PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY", None):
        options = {"column_encoding": {"img": encoding}} if encoding else {}
        table = pa.table({"img": pa.array(images, pa.binary()), "label": list(range(50))})
        path = tmp_path / f"{encoding}.parquet"
        parquet.write_table(table, path, use_dictionary=not encoding, **options)
        found = shards.read(path)
        assert found.images == images
        assert found.labels.tolist() == list(range(50))


def test_an_image_that_is_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "0.png")
    with pytest.raises(DataError, match=r"0.png is damaged or no image \(no file\), expected"):
        Picture(tmp_path / "0.png", str(tmp_path / "0.png")).open()


# --- YAML ---

YAML = {
    "deep lists": "a: " + "[" * 30_000,
    "deep mappings": "{a: " * 300 + "1" + "}" * 300,
    "deep blocks": "".join(" " * i + "a:\n" for i in range(350)),
    "deep items": "- " * 30_000,
    "billion laughs": "\n".join(
        ["a: &a [x, x, x, x, x, x, x, x, x]"]
        + [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefgh")]
    ),
    "doubling mappings": "\n".join(
        ["a: &a {x: 1}"]
        + [f"{b}: &{b} {{p: *{a}, q: *{a}}}" for a, b in pairwise("abcdefghijklmnop")]
    ),
    "itself": "&a {a: *a}",
    "itself as a key": "&a {*a : 1}",
    "merged": "a: &a {x: 1}\nb: {<<: *a, <<: [*a, *a]}",
    "digits": "a: " + "9" * 60_000,
    "documents": "---\n" * 15_000,
    "anchors": "\n".join(f"- &a{i} x" for i in range(6_000)),
    "questions": "? " * 30_000,
    "many keys": "".join(f"k{i}: 1\n" for i in range(7_000)),
    "one key": "a: 1\n" * 13_000,
}


@pytest.mark.parametrize("name", YAML)
def test_yaml_that_explodes(tmp_path: Path, name: str) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text(YAML[name])
    if name in ("one key", "merged", "itself as a key"):  # told with the values' problems
        assert read_yaml(path).problems
        return
    with pytest.raises(ConfigError) as error:
        read_yaml(path)
    assert len(str(error.value)) < 100_000


@pytest.mark.parametrize("size", [64 * 1024 + 1, 2**40])
def test_a_file_of_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "sweep.yaml"
    with open(path, "wb") as file:
        file.truncate(size)  # a sparse one
    with pytest.raises(ConfigError, match="larger than 64 KiB"):
        read_yaml(path)


def test_a_space_of_giants_is_none_that_can_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` thins a network to know its cost, and says so where it cannot."""
    monkeypatch.setattr(check, "DRAWS", 3)
    network = {"family": "resnet", "stem": {"width": 64}, "widths": [4096, 4096], "layers": 9}
    candidate = {"network": network, "structured_pruning": {"ratio": {"low": 0.1, "high": 0.5}}}
    path = write(tmp_path / "sweep.yaml", tiny(candidate=tiny()["candidate"] | candidate))
    with pytest.raises(ValueError, match=r"none of 3 draws can be built: the network to thin has"):
        check.sample(load_sweep(path))


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(ConfigError, match="is no regular file, expected a YAML file"):
            read_yaml(path)
        with pytest.raises(OSError, match="is no regular file"):
            read_json(path)


# --- JSON that the driver reads back ---

FINE = {
    "state": "complete",
    "started": 1.0,
    "ended": 2.0,
    "device": "cpu",
    "accuracy": 0.9,
    "scores": {"imt": {"score": 0.1, "parameters": 0.05, "operations": 0.05}},
    "curve": [],
}


def test_an_outcome_is_what_it_should_be(tmp_path: Path) -> None:
    assert Outcome.from_json(FINE).accuracy == 0.9
    wrong: list[object] = [
        None,
        [],
        {},
        {**FINE, "state": "done"},
        {**FINE, "accuracy": None},
        {**FINE, "accuracy": "high"},
        {**FINE, "started": [1.0]},
        {**FINE, "scores": {"imt": {"score": 0.1}}},
        {**FINE, "curve": [{"epoch": 1}]},
        {**FINE, "more": 1},
    ]
    for tree in wrong:
        with pytest.raises(ValueError, match="found"):
            Outcome.from_json(tree)
    study = Root(tmp_path).study("a")
    for content in (b"[" * 100_000, b"{", b"\xff", json.dumps(wrong[2]).encode()):
        study.trial(0).path.mkdir(parents=True, exist_ok=True)
        study.trial(0).outcome.write_bytes(content)
        found = rf"{study.trial(0).outcome}(: found no outcome| is damaged, expected JSON)"
        with pytest.raises(ValueError, match=found):
            read_outcomes(study, "imt")


# --- code ---

LOADERS = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "jsonpickle"}
CALLS = {
    "torch.load",
    "numpy.load",
    "np.load",
    "yaml.load",
    "yaml.unsafe_load",
    "pandas.read_pickle",
}


def test_no_module_loads_pickles() -> None:
    """One exception is not ours: torchvision reads CIFAR-10's archive once its MD5 is right."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call):
                assert ast.unparse(node.func) not in CALLS, (path, node.lineno)
            assert not LOADERS & {name.split(".")[0] for name in names}, (path, node)
