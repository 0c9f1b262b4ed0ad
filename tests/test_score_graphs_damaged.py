"""ONNX files that are damaged, or were made to harm: one line each, soon, with little memory."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exports import DIGITS, RESNET, random_shipped, widths
from graphs import floats, node, save
from limits import MUTANTS, within
from onnx import ModelProto, TensorProto, helper

from micronet_search import cli
from micronet_search.runtime import onnx_model
from micronet_search.scoring.graphs.measure import measure
from micronet_search.scoring.rules import scores


@pytest.fixture(autouse=True)
def _soon() -> Iterator[None]:
    with within(5 + MUTANTS / 50, 500):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A network of one convolution."""
    nodes = [node("Conv", "x w", "c"), node("Relu", "c", "y")]
    return save(tmp_path / "model.onnx", nodes, {"w": floats(4, 3, 3, 3)}, output=(1, 4))


def change(path: Path, edit: Callable[[ModelProto], Any]) -> None:
    model = onnx.load(path)
    edit(model)
    path.write_bytes(model.SerializeToString())


def refused(path: Path) -> str:
    with pytest.raises(ValueError, match=r"model\.onnx: ") as error:
        measure(path)
    text = str(error.value)
    assert "\n" not in text
    assert len(text) < 500
    return text.partition("model.onnx: ")[2]


# --- damaged files ---


@pytest.mark.parametrize(
    "content",
    [b"hello", b"PK\x03\x04" + bytes(60), b"network: {family: resnet}\n", b"\x80\x04.", bytes(99)],
    ids=["text", "archive", "candidate", "pickle", "zeros"],
)
def test_no_onnx_file(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert refused(path) in ("damaged or no ONNX file", "found no graph, expected an ONNX file")


def test_an_empty_file(path: Path) -> None:
    path.write_bytes(b"")
    assert refused(path) == "found no graph, expected an ONNX file"


def test_a_file_that_is_cut_short(path: Path) -> None:
    content = path.read_bytes()
    for end in range(0, content.index(b"com.microsoft"), 3):  # from there on all is there
        path.write_bytes(content[:end])
        refused(path)


def test_a_file_of_any_size(path: Path) -> None:
    with open(path, "wb") as sparse:
        sparse.truncate(2**40)
    assert refused(path) == "larger than 1,073,741,824 bytes, expected an ONNX file"


def test_pipes_and_folders_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "nothing"):
        with pytest.raises(OSError, match=r"is no regular file|directory"):
            measure(tmp_path / name)


# --- files that claim too much ---


def length(number: int, content: bytes) -> bytes:
    """A field of bytes, or of a message, as protobuf writes it."""
    found, size = bytes([number << 3 | 2]), len(content)
    while size > 127:
        found, size = found + bytes([size & 127 | 128]), size >> 7
    return found + bytes([size]) + content


MANY = 2**20
EXPLODING = {
    "nodes": length(7, bytes([1 << 3 | 2, 0]) * MANY),
    "initializers": length(7, bytes([5 << 3 | 2, 0]) * MANY),
    "attributes": length(7, length(1, bytes([5 << 3 | 2, 0]) * MANY)),
    "names": length(7, length(1, bytes([1 << 3 | 2, 0]) * MANY)),
    "integers": length(7, length(5, length(7, bytes(2**27 + 1)))),
}


@pytest.mark.parametrize("name", EXPLODING)
def test_small_files_that_are_large_in_memory(path: Path, name: str) -> None:
    path.write_bytes(EXPLODING[name])
    assert "too large in memory" in refused(path)


def test_messages_in_messages(path: Path) -> None:
    content = b""
    for _ in range(2_000):  # a node, its attribute, and the graph of that
        content = length(1, length(5, length(6, content)))
    path.write_bytes(length(7, content))
    assert refused(path) == "damaged or no ONNX file"


def of_shape(*dims: int) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return edit


def emptied(model: ModelProto) -> None:
    model.graph.initializer[0].ClearField("raw_data")


def nothing(model: ModelProto) -> None:
    of_shape(0, 3, 3, 3)(model)
    model.graph.initializer[0].raw_data = b""


def outside(model: ModelProto) -> None:
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def image_of(*dims: int | str) -> Callable[[ModelProto], None]:
    def edit(model: ModelProto) -> None:
        found = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
        model.graph.input[0].CopyFrom(found)

    return edit


def second_input(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("z\x1b", TensorProto.FLOAT, [1]))


def cycle(model: ModelProto) -> None:
    model.graph.node[0].input[0] = "y"


def branch(model: ModelProto) -> None:
    model.graph.node.add(op_type="If").attribute.add(name="then_branch").g.name = "inner"


def function(model: ModelProto) -> None:
    model.functions.add(name="F", domain="f")


def sparse(model: ModelProto) -> None:
    model.graph.sparse_initializer.add().dims.extend([2**40])


def doubled(model: ModelProto) -> None:
    """Each list joined to itself, 40 times."""
    nodes = [node("Shape", "x", "s0")]
    nodes += [node("Concat", f"s{i} s{i}", f"s{i + 1}", axis=0) for i in range(40)]
    model.graph.node.extend([*nodes, node("Reshape", "x s40", "z"), node("Relu", "z", "r")])


def newer(model: ModelProto) -> None:
    model.ir_version = 1_000


REFUSED: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "a giant": (of_shape(2**40, 3, 3, 3), "w"),
    "beyond 64 bits together": (of_shape(2**40, 2**40, 3, 3), "w"),
    "a negative size": (of_shape(-4, 3, 3, 3), "w has the shape [-4, 3, 3, 3]"),
    "more values than it has": (of_shape(8, 3, 3, 3), "w"),
    "no values": (emptied, "w"),
    "nothing at all": (nothing, "the weights of Conv are empty"),
    "values in another file": (outside, "the values of w are in another file"),
    "a giant image": (image_of("N", 3, 2**40, 2**40), "elements"),
    "an image of any size": (
        image_of("N", 3, "H", "W"),
        "the shape (N, 3, H, W), expected a batch",
    ),
    "a number": (image_of(), "the input x has the shape ()"),
    "two inputs": (second_input, "found 2 inputs (x, z?), expected one: the image"),
    "no input": (lambda model: model.graph.ClearField("input"), "found 0 inputs ()"),
    "a cycle": (cycle, "topologically sorted"),
    "a branch": (branch, "found the operator If, which has a graph of its own"),
    "a function": (function, "found functions"),
    "sparse tensors": (sparse, "found sparse tensors"),
    "shapes without end": (doubled, "the shape of z, made by Reshape, is not known"),
    "a newer version": (newer, "ir_version"),
    "no layer": (lambda model: model.graph.node.pop(0) and None, "not valid as ONNX"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(path: Path, name: str) -> None:
    edit, expected = REFUSED[name]
    change(path, edit)
    assert expected in refused(path)


def test_a_graph_without_weights_is_no_network(tmp_path: Path) -> None:
    path = save(tmp_path / "model.onnx", [node("Relu", "x", "y")], output=(1, 4))
    assert refused(path) == "found no convolution and no linear layer with its weights"


def test_scales_of_another_shape(tmp_path: Path) -> None:
    """They would be spread to a million times the elements that there are."""
    nodes = [
        node("QuantizeLinear", "w s", "q", axis=0),
        node("DequantizeLinear", "q s", "v", axis=0),
        node("Gemm", "x v", "y"),
    ]
    tensors = {"w": floats(1, 30_000), "s": np.abs(floats(30_000)) + 1}
    path = save(tmp_path / "model.onnx", nodes, tensors, ("N", 1))
    refused(path)


# --- mutants ---


def flipped(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        place = rng.randrange(len(found))
        match rng.randrange(5):
            case 0:
                found[place] ^= 1 << rng.randrange(8)
            case 1:
                found[place] = rng.choice([0, 1, 127, 128, 255])
            case 2:
                del found[place : place + rng.randrange(1, 9)]
            case 3:
                found[place:place] = rng.randbytes(rng.randrange(1, 9))
            case 4:
                other = rng.randrange(len(found))
                found[place : place + 16] = found[other : other + 16]
    return bytes(found)


NUMBERS = [0, 1, -1, 2, 7, 2**31, 2**40, 2**62, -(2**63)]
OPERATORS = [
    *("Conv", "Gemm", "MatMul", "Add", "Mul", "Relu", "Clip", "Cast", "Concat", "Shape", "Split"),
    *("Softmax", "LSTM", "Transpose", "Reshape", "BatchNormalization", "AveragePool"),
    *("QuantizeLinear", "Max", "ReduceMean"),
]


def edited(content: bytes, rng: random.Random) -> bytes:
    """Still protobuf, and no network any more, or another one."""
    model = onnx.load_model_from_string(content)
    graph = model.graph
    for _ in range(rng.choice([1, 1, 2, 3])):
        found, tensor = rng.choice(graph.node), rng.choice(graph.initializer)
        attribute = rng.choice([a for n in graph.node for a in n.attribute])
        match rng.randrange(9):
            case 0:
                found.op_type = rng.choice(OPERATORS)
            case 1:
                names = [name for n in graph.node for name in n.output]
                found.input[rng.randrange(len(found.input))] = rng.choice([*names, ""])
            case 2 if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NUMBERS)
            case 3:
                tensor.data_type = rng.randrange(30)
            case 4 if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NUMBERS)
            case 5:
                attribute.i = rng.choice(NUMBERS)
            case 6:
                attribute.name = rng.choice(["axis", "block_size", "transB", "group", "perm", "to"])
            case 7:
                tensor.raw_data = rng.choice([b"", tensor.raw_data[:-1], tensor.raw_data * 2])
            case 8:
                model.opset_import[0].version = rng.randrange(1, 27)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def sources() -> list[bytes]:
    return [
        onnx_model.write(random_shipped(quantization, DIGITS, RESNET), {})
        for quantization in (None, widths(3, 5), widths(1, 4, mode="dynamic"))
    ]


@pytest.mark.parametrize("mutate", [flipped, edited])
def test_a_mutant_is_scored_or_refused(
    tmp_path: Path, sources: list[bytes], mutate: Callable[[bytes, random.Random], bytes]
) -> None:
    path, valid = tmp_path / "model.onnx", 0
    for seed in range(MUTANTS):
        rng = random.Random(seed)
        path.write_bytes(mutate(rng.choice(sources), rng))
        begun, message = time.process_time(), ""
        try:
            found = scores(measure(path).cost)
            valid += all(score.score >= 0 for score in found.values())
        except ValueError as error:
            message = str(error)
        except Exception as error:
            raise AssertionError(f"mutant {seed}: {error!r}") from error
        assert "\n" not in message, seed
        assert time.process_time() - begun < 1, seed
    assert 0 < valid < MUTANTS


# --- the command ---


def score(*arguments: str | Path) -> tuple[int, str]:
    out, code = io.StringIO(), None
    before, sys.argv = sys.argv, ["micronet-search", "score", *map(str, arguments)]
    try:
        with contextlib.redirect_stderr(out), contextlib.redirect_stdout(out):
            cli.main()
    except SystemExit as exit:
        code = exit.code
    finally:
        sys.argv = before
    return int(code or 0), out.getvalue()


def test_the_command_says_in_a_line_what_is_wrong(path: Path, tmp_path: Path) -> None:
    change(path, second_input)
    assert score(path) == (2, f"error: {path}: found 2 inputs (x, z?), expected one: the image\n")
    code, text = score(tmp_path / "model.pt")
    assert (code, text.count("\n")) == (2, 1)
    assert "expected a file whose name ends in .yaml, .yml, .onnx" in text


def test_names_are_shown_as_they_are_and_harmless(tmp_path: Path) -> None:
    first = node("Conv", "x w", "c", name="[red]a[/]\x1b[2J\n")
    nodes = [first, node("Softmax", "c", "[/b]"), node("Tanh", "[/b]", "y")]
    path = save(tmp_path / "model.onnx", nodes, {"w": floats(4, 3, 3, 3)}, output=(1, 4))
    code, text = score(path)
    assert code == 0
    assert "[red]a[/]?[2J?" in text
    assert "measured: 108 parameters" in text
    assert "cannot be counted: Softmax (1 node), Tanh (1 node)" in text
    assert "\x1b" not in text


def test_a_candidate_needs_no_training(tmp_path: Path) -> None:
    path = tmp_path / "candidate.yaml"
    path.write_text("network: {family: resnet, stem: {width: 8}, widths: [8], layers: 1}\n")
    code, text = score(path)
    assert code == 0
    assert "predicted: " in text
    path.write_text("network: {family: resnet}\ntrainning: {}\n")
    code, text = score(path)
    assert code == 2
    assert "trainning" in text
