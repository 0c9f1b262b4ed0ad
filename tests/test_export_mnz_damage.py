"""Packed files that are damaged, or were made to harm: one clear line, soon, and little memory."""

from __future__ import annotations

import os
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import COLOUR, DENSENET, DIGITS, EFFICIENTNET, RESNET, random_shipped, widths
from limits import MUTANTS, within

from micronet_search import mnz
from micronet_search.export import packed

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    with within(5 + MUTANTS / 50, 300):
        yield


@pytest.fixture(scope="module")
def small() -> bytes:
    network = {"family": "resnet", "stem": {"width": 2}, "widths": [2], "layers": 1}
    content = packed.pack(random_shipped(widths(2, 4), DIGITS, network))
    assert mnz.load(content).classes == 10
    assert len(content) < 300
    return content


def sealed(content: bytes) -> bytes:
    """With a checksum that is right, which anyone can forge."""
    return content + zlib.crc32(content).to_bytes(4, "little")


def refusal(content: bytes) -> str | None:
    """The one line of a file that is refused; None where it is a network, which then runs."""
    try:
        model = mnz.load(content)
    except ValueError as error:
        (line,) = str(error).splitlines()
        assert 10 < len(line) < 300, line
        return line
    if model._size + sum(node.macs for node in model.nodes) < 2**22:
        logits = model(np.full((2, *model.image), 200, np.uint8))
        assert logits.shape == (2, model.classes)
    return None


def test_every_truncation(small: bytes) -> None:
    for length in range(len(small)):
        assert refusal(small[:length])
        if length >= 4:
            assert refusal(sealed(small[: length - 4]))


def test_every_flipped_bit(small: bytes) -> None:
    for bit in range(8 * len(small)):
        changed = bytearray(small)
        changed[bit // 8] ^= 1 << bit % 8
        line = refusal(bytes(changed))
        assert line is not None
        if bit >= 32:
            assert line.startswith("checksum: found ")


def test_what_follows_is_refused(small: bytes) -> None:
    assert refusal(small + b"\0")
    assert refusal(sealed(small[:-4] + b"\0")) == (
        f"bits left of the tensors: found {8 + spare(small)}, expected less than a byte"
    )


def spare(content: bytes) -> int:
    """The bits that fill the last byte."""
    model = mnz.load(content)
    bits = 0
    for node in model.nodes:
        for role, (_, width) in node.stored.items():
            elements, kept = node.tensors[role].size, int(np.count_nonzero(node.tensors[role]))
            dense = elements * width
            sparse = kept < elements and (width == 1 or kept * width + elements < dense)
            bits += 1 + (kept * width + elements if sparse else dense)
    return -bits % 8


def test_random_edits_with_a_right_checksum(small: bytes) -> None:
    rng, refused = random.Random(0), 0
    for _ in range(MUTANTS):
        changed = bytearray(small[:-4])
        for _ in range(rng.choice([1, 1, 2, 8])):
            match rng.randrange(3):
                case 0:
                    changed[rng.randrange(4, len(changed))] = rng.randrange(256)
                case 1:
                    del changed[rng.randrange(4, len(changed))]
                case 2:
                    changed.insert(rng.randrange(4, len(changed)), rng.randrange(256))
        refused += refusal(sealed(bytes(changed))) is not None
    assert refused > MUTANTS / 2


Rows = np.ndarray[Any, np.dtype[np.uint16]]


def taken_apart(content: bytes) -> tuple[tuple[Any, ...], Rows, bytes]:
    """The head without the size of the graph, the graph, and the tensors."""
    *head, length = mnz.HEAD.unpack_from(content)
    end = mnz.HEAD.size + length
    table = np.frombuffer(zlib.decompress(content[mnz.HEAD.size : end]), "<u2")
    return tuple(head), table.reshape(-1, mnz.ROW).copy(), content[end:-4]


def put_together(head: tuple[Any, ...], rows: Rows, tensors: bytes) -> bytes:
    graph = zlib.compress(rows.astype("<u2").tobytes())
    return sealed(mnz.HEAD.pack(*head, len(graph)) + graph + tensors)


CASES = {
    "densenet": (widths(4, 4, mode="dynamic"), DIGITS, DENSENET),
    "resnet": (widths(16, 8), DIGITS, RESNET),
    "efficientnet": (widths(1, 8, first=widths(8, 8)), COLOUR, EFFICIENTNET),
}


@pytest.mark.parametrize("name", CASES)
def test_random_graphs_with_a_right_checksum(name: str) -> None:
    head, rows, tensors = taken_apart(packed.pack(random_shipped(*CASES[name])))
    assert refusal(put_together(head, rows, tensors)) is None
    rng, refused = random.Random(1), 0
    values = [0, 1, 2, 3, 5, 8, 16, 17, 32, 255, 1000, 4096, 2**15, 2**16 - 1]
    for _ in range(MUTANTS):
        changed = rows.copy()
        for _ in range(rng.choice([1, 1, 2, 5])):
            node, number = rng.randrange(len(rows)), rng.randrange(mnz.ROW)
            near = int(rows[node, number]) + rng.choice([-1, 1])
            changed[node, number] = rng.choice([*values, near % 2**16])
        # enough for any tensor that is not too large
        refused += refusal(put_together(head, changed, tensors + bytes(2**16))) is not None
        refused += refusal(put_together(head, changed, tensors)) is not None
    assert refused > MUTANTS


def row(operation: str, **numbers: int) -> list[int]:
    names = ["source", "other", "channels", "kernel", "stride", "padding", "groups"]
    given = {"source": 1, "channels": 1, "kernel": 1, "stride": 1, "groups": 1} | numbers
    found = [given.pop(name, 0) for name in [*names, *mnz.ROLES, "input_bits", "flags"]]
    assert not given
    return [list(mnz.OPERATIONS).index(operation), *found]


def file(
    *rows: list[int], image: tuple[int, int, int] = (1, 1, 1), tensors: bytes = b"", **head: Any
) -> bytes:
    values = {"magic": mnz.MAGIC, "rest_bits": 32, "mean": 0, "scale": 1.0} | head
    return put_together((*values.values(), *image), np.array(rows, np.uint16), tensors)


FLOAT = {"weight": 32, "input_bits": 32}
ONE = struct.pack("<f", 1.0)
MOST = 2**16 - 1
HARMFUL: dict[str, tuple[bytes, str]] = {
    "an image of petabytes": (
        file(row("relu"), image=(MOST, MOST, MOST)),
        "node 1: values: found 562924184010750, expected up to",
    ),
    "weights of petabytes": (
        file(row("conv", channels=MOST, kernel=MOST, **FLOAT), image=(1, MOST, MOST)),
        "node 1: elements: found 281462092005375, expected at most 67108864",
    ),
    "weights of gigabytes that are not there": (
        file(row("linear", channels=1000, **FLOAT), image=(60_000, 1, 1), tensors=bytes(8)),
        "node 1: bits for the weight: found 63, expected at least 1920000000",
    ),
    "a mask of gigabytes that is not there": (
        file(row("linear", channels=1000, **FLOAT), image=(60_000, 1, 1), tensors=b"\1" * 8),
        "node 1: bits for the weight: found 63, expected at least 60000000",
    ),
    "values that double at every node": (
        file(*[row("join", other=1)] * 40, image=(1, 64, 64)),
        "values: found",
    ),
    "a padding of gigabytes": (
        file(row("conv", padding=MOST, kernel=3, **FLOAT), tensors=bytes(100)),
        "node 1: window and groups: found [1, 3, 1, 65535, 1], expected ones for 1 channels",
    ),
    "windows of gigabytes": (
        file(
            row("conv", kernel=255, padding=127, weight=1, input_bits=32),
            image=(1, 1000, 1000),
            tensors=bytes(10_000),
        ),
        "node 1: values: found 130052000000, expected up to 134217728",
    ),
    "a mean that takes years": (
        file(row("average-pool", kernel=5000), image=(1, 10_000, 10_000)),
        "node 1: operations: found 625250025000000, expected up to 68719476736",
    ),
    "a network that takes years": (
        file(
            row("conv", channels=1280, kernel=3, padding=1, weight=1, input_bits=32),
            image=(1280, 70, 70),
            tensors=bytes(1280 * 1280 * 9 // 8 + 1),
        ),
        "node 1: operations: found 72253440000, expected up to 68719476736",
    ),
    "a window that is larger than its input": (
        file(row("average-pool", kernel=2, stride=2)),
        "node 1: window shape cannot be larger than input array shape",
    ),
    "a source that is not there": (
        file(row("relu"), row("relu", source=3)),
        "node 2: sources: found [3], expected 1 to 2",
    ),
    "itself as a source": (file(row("add", source=1, other=0)), "node 1: sources: found [1, 0]"),
    "no operation": (
        file([99] * mnz.ROW),
        "node 1: operation: found 99, expected at most 12",
    ),
    "no groups": (
        file(row("conv", groups=0, **FLOAT)),
        "node 1: window and groups: found [1, 1, 1",
    ),
    "no width": (
        file(row("conv", weight=9, input_bits=8)),
        "node 1: bits of tensors and input: found [9, 0, 0, 0, 8], expected 1 to 8, 16 or 32",
    ),
    "no input": (file(row("conv", weight=8)), "node 1: bits of tensors and input: found [8, 0"),
    "no weights": (file(row("conv", input_bits=8)), "node 1: bits of tensors and input: found [0"),
    "infinite weights": (
        file(row("linear", **FLOAT), tensors=bytes(2) + b"\0\xff\0"),
        "node 1: values of the weight: found infinity, expected finite ones",
    ),
    "images that do not fit": (
        file(row("global-mean"), row("join", source=1, other=2), image=(2, 3, 3)),
        "node 2: all the input array dimensions except for the concatenation axis must match",
    ),
    "a linear layer with windows": (
        file(row("linear", kernel=3, padding=1, **FLOAT), tensors=bytes(5), image=(1, 3, 3)),
        "node 1: matmul",
    ),
    "logits of many pixels": (
        file(row("relu"), image=(2, 3, 3)),
        "shape of the logits: found (2, 3, 3), expected height and width 1",
    ),
    "no nodes": (file(), "bytes of the graph: found 0, expected rows of 28, up to 1048576"),
    "no image": (file(row("relu"), image=(0, 1, 1)), "head: found (32, 1.0, 0, 1"),
    "no number": (file(row("relu"), scale=float("nan")), "head: found (32, nan"),
    "no scale": (file(row("relu"), scale=-1.0), "head: found (32, -1.0"),
    "bits of none": (file(row("relu"), rest_bits=7), "head: found (7, 1.0"),
    "another version": (
        file(row("relu"), magic=b"MNZ\2"),
        r"magic and version: found b'MNZ\x02', expected b'MNZ\x01'",
    ),
}


@pytest.mark.parametrize("name", HARMFUL)
def test_files_that_were_made_to_harm(name: str) -> None:
    content, expected = HARMFUL[name]
    line = refusal(content)
    assert line is not None
    assert expected in line


def test_a_graph_that_explodes() -> None:
    head = mnz.HEAD.pack(mnz.MAGIC, 32, 0, 1.0, 1, 1, 1, 10**6)
    bomb = zlib.compress(np.array(row("relu") * 10**6, "<u2").tobytes(), 9)
    assert len(bomb) < 10**6
    line = refusal(sealed(head + bomb))
    assert line == "bytes of the graph: found 1048576, expected rows of 28, up to 1048576"


def test_as_many_nodes_as_there_may_be() -> None:
    count = mnz.MAX_GRAPH // (2 * mnz.ROW)
    assert refusal(file(*[row("relu")] * count)) is None


def test_a_graph_that_is_none() -> None:
    head = mnz.HEAD.pack(mnz.MAGIC, 32, 0, 1.0, 1, 1, 1, 4)
    for graph in (b"abcd", zlib.compress(b"abc")):
        line = refusal(sealed(head + graph))
        assert line is not None
        assert line.startswith("graph: found" if graph == b"abcd" else "bytes of the graph: found")


# --- files ---


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "none", Path("/dev/zero")):
        with pytest.raises(ValueError, match=f"^{path}: path: found no file, expected"):
            mnz.load(path)


@pytest.mark.parametrize("size", [2**28 + 1, 2**40])
def test_a_file_of_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "model.mnz"
    with open(path, "wb") as file:
        file.truncate(size)  # a sparse one
    with pytest.raises(ValueError, match=rf"model.mnz: bytes: found {size}, expected at most"):
        mnz.load(str(path))


def test_files_of_other_formats(tmp_path: Path) -> None:
    for content in (b"", b"MNZ", b"PK\3\4" + bytes(100), b"\x80\4\x95" + bytes(100), b"{}"):
        (tmp_path / "model.mnz").write_bytes(content)
        with pytest.raises(ValueError, match=r"^/.*model.mnz: magic and version: found b'"):
            mnz.load(tmp_path / "model.mnz")


class Harm:
    """Makes a file when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harmed",)


def test_images_that_are_none(tmp_path: Path, small: bytes) -> None:
    (tmp_path / "model.mnz").write_bytes(small)
    np.save(tmp_path / "pickle.npy", np.array([Harm()], object), allow_pickle=True)
    np.save(tmp_path / "float.npy", np.zeros((2, 1, 8, 8)))
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000, 1, 8, 8)}"
    giant = b"\x93NUMPY\1\0" + struct.pack("<H", len(header) + 1) + header + b"\n"
    (tmp_path / "giant.npy").write_bytes(giant)
    (tmp_path / "text.npy").write_bytes(b"no array")
    expected = {
        "pickle.npy": "Python objects",
        "float.npy": "image: found ('float64', 1, 8, 8), expected ('uint8', 1, 8, 8)",
        "giant.npy": "",
        "text.npy": "magic string",
        "none.npy": "No such file",
    }
    for name, message in expected.items():
        command = [sys.executable, mnz.__file__, "model.mnz", name]
        ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert (ran.returncode, ran.stdout) == (1, "")
        (line,) = ran.stderr.splitlines()
        assert line.startswith("error: ")
        assert message in line
    assert not (tmp_path / "harmed").exists()
