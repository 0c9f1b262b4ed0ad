"""A contest: what is measured of networks that others made, their order, and how it is shown."""

from __future__ import annotations

import csv
import io
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import studies
from exports import CIFAR, RESNET, random_shipped, widths
from graphs import floats, node, save
from onnx import NodeProto, TensorProto
from rich.console import Console

from micronet_search import cli
from micronet_search.config.sweep import Dataset
from micronet_search.data.splits import Splits, load
from micronet_search.export import packed
from micronet_search.report import judge as judging
from micronet_search.report.judge import Measured, Split, judge, measure, reason, submissions
from micronet_search.report.leaderboard import Goals, Leaderboard, find_dataset, rank
from micronet_search.report.standings import COLUMNS, to_page, to_rows, to_table
from micronet_search.runtime import onnx_model
from micronet_search.shipped import Shipped

Array = np.ndarray[Any, Any]

PIXELS = TensorProto.UINT8
CAST = node("Cast", "x", "f", to=TensorProto.FLOAT)
LINEAR = [CAST, node("Flatten", "f", "g"), node("MatMul", "g w", "y")]


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load(Dataset(name="digits"))


@pytest.fixture(scope="module")
def split(splits: Splits) -> Split:
    return Split(splits.test.images.numpy(), splits.test.labels.numpy(), splits.classes)


@pytest.fixture(scope="module")
def weights(splits: Splits) -> Array:
    """A linear classifier by least squares, (64, 10)."""
    pixels = splits.train.images.flatten(1).numpy() / 255
    found, *_ = np.linalg.lstsq(pixels, np.eye(10)[splits.train.labels.numpy()])
    return found.astype(np.float32)


@pytest.fixture(scope="module")
def shipped() -> Shipped:
    return random_shipped(widths(4, 8), network=RESNET)


def linear(
    path: Path, weights: Array, batch: int | str = "N", nodes: list[NodeProto] = LINEAR
) -> Path:
    return save(path, nodes, {"w": weights}, (batch, 1, 8, 8), PIXELS)


def right(split: Split, weights: Array) -> float:
    """The accuracy of a linear classifier."""
    classes = (split.images.reshape(-1, 64) @ weights).argmax(1)
    return float((classes == split.labels).mean())


# --- what is measured ---


@pytest.mark.parametrize("batch", ["N", 1, 7, 500])
def test_a_linear_classifier(tmp_path: Path, split: Split, weights: Array, batch: Any) -> None:
    sparse = np.where(np.abs(weights) < 0.02, np.float32(0), weights)
    nonzeros = int((sparse != 0).sum())
    assert 300 < nonzeros < 640
    found = measure(linear(tmp_path / "a.onnx", sparse, batch), split, "imt")
    assert found.accuracy == pytest.approx(right(split, sparse))
    assert found.accuracy > 0.85
    assert (found.parameters, found.nonzeros, found.macs) == (640, nonzeros, 640)
    assert found.score_parameters == pytest.approx(nonzeros / 5.6e6)
    assert found.score_operations == pytest.approx(640 / 2.8e8)  # 32 bits: the weights are floats
    assert found.score == pytest.approx(nonzeros / 5.6e6 + 640 / 2.8e8)
    assert found.size == (tmp_path / "a.onnx").stat().st_size


@pytest.mark.parametrize("rule", ["imt", "micronet2019"])
def test_a_network_in_both_kinds_of_files(
    tmp_path: Path, split: Split, splits: Splits, shipped: Shipped, rule: str
) -> None:
    (tmp_path / "a.MNZ").write_bytes(packed.pack(shipped))
    (tmp_path / "b.onnx").write_bytes(onnx_model.write(shipped, {}))
    classes = shipped(splits.test.images).argmax(1)
    accuracy = (classes == splits.test.labels).double().mean().item()
    for name in ("a.MNZ", "b.onnx"):
        found = measure(tmp_path / name, split, rule)
        assert found.accuracy == pytest.approx(accuracy, abs=1.5 / 359)
        assert found.score == found.score_parameters + found.score_operations
        assert found.score == pytest.approx(measure(tmp_path / "a.MNZ", split, rule).score)
        assert found.notes


def test_a_folder_is_its_packed_file_where_it_has_one(
    tmp_path: Path, split: Split, weights: Array, shipped: Shipped
) -> None:
    linear(tmp_path / "model.onnx", weights)
    assert measure(tmp_path, split, "imt").parameters == 640
    (tmp_path / "model.mnz").write_bytes(packed.pack(shipped))
    assert measure(tmp_path, split, "imt").parameters != 640


def test_what_a_submission_is(tmp_path: Path) -> None:
    for name in ("a.mnz", "b.ONNX", "readme.md", "model.pt", ".c.mnz", "board.html"):
        (tmp_path / name).write_bytes(b"")
    for name in ("team", ".git"):
        (tmp_path / name).mkdir()
    assert [path.name for path in submissions(tmp_path)] == ["a.mnz", "b.ONNX", "team"]


# --- what cannot be judged ---


def graph(nodes: list[NodeProto], **options: Any) -> Callable[[Path], Any]:
    options = {"shape": ("N", 1, 8, 8), "kind": PIXELS, "tensors": {"w": floats(64, 10)}} | options
    return lambda path: save(path / "model.onnx", nodes, **options)


def content(name: str, value: bytes) -> Callable[[Path], Any]:
    return lambda path: (path / name).write_bytes(value)


def outside(path: Path) -> None:
    """Weights that are in another file."""
    (path.parent / "weights").write_bytes(floats(64, 10).tobytes())
    linear(path / "model.onnx", floats(64, 10))
    model = onnx.load(path / "model.onnx")
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../weights")
    (path / "model.onnx").write_bytes(model.SerializeToString())


def larger(path: Path) -> None:
    """A network for other images."""
    found = packed.pack(random_shipped(widths(4, 8), CIFAR, RESNET))
    (path / "model.mnz").write_bytes(found)


def cut(path: Path) -> None:
    found = packed.pack(random_shipped(widths(4, 8), network=RESNET))
    (path / "model.mnz").write_bytes(found[:-9])


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "floats": (
        graph([node("Flatten", "x", "g"), LINEAR[2]], kind=TensorProto.FLOAT),
        "found an input of float32, N x 1 x 8 x 8, expected pixels of uint8, N x 1 x 8 x 8",
    ),
    "channels last": (
        graph(LINEAR, shape=("N", 8, 8, 1)),
        "found an input of uint8, N x 8 x 8 x 1, expected pixels of uint8, N x 1 x 8 x 8",
    ),
    "other images": (
        larger,
        "found an input of uint8, N x 3 x 32 x 32, expected pixels of uint8, N x 1 x 8 x 8",
    ),
    "nine classes": (
        graph(LINEAR, tensors={"w": floats(64, 9)}),
        "found an output of the shape (250, 9) for 250 images, expected logits of the shape",
    ),
    "a class": (
        graph(
            [*LINEAR[:2], node("MatMul", "g w", "z"), node("ArgMax", "z", "y", axis=1, keepdims=0)],
            output=(TensorProto.INT64, 1),
        ),
        "found an output of the shape (250,) for 250 images",
    ),
    "a foreign operator": (
        graph(
            [
                *LINEAR[:2],
                node("MatMul", "g w", "z"),
                node("Det", "f", "d"),
                node("Add", "z d", "y"),
            ]
        ),
        "the cost of Det is not known: the score would be a lower bound",
    ),
    "weights elsewhere": (outside, "the values of w are in another file, expected all of them"),
    "a pickle": (content("model.onnx", pickle.dumps(print)), "damaged or no ONNX"),
    "a packed pickle": (content("model.mnz", pickle.dumps(print)), "magic and version: found"),
    "cut short": (cut, "expected"),
    "nothing": (content("model.pt", b""), "found neither model.mnz nor model.onnx in the folder"),
    "another's": (
        lambda path: os.symlink(
            linear(path.parent / "other.onnx", floats(64, 10)), path / "model.onnx"
        ),
        "model.onnx is a link out of the folder",
    ),
    "a pipe": (lambda path: os.mkfifo(path / "model.onnx"), "is no regular file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_one_line_says_why_a_submission_is_not_judged(
    tmp_path: Path, split: Split, name: str
) -> None:
    make, expected = REFUSED[name]
    make(tmp_path)
    with pytest.raises(Exception, match=r".") as error:
        measure(tmp_path, split, "imt")
    found = reason(error.value, tmp_path)
    assert found.startswith(expected) or (name == "cut short" and expected in found)
    assert "\n" not in found
    assert len(found) <= 300


# --- a process of its own ---


def die(*_: object) -> None:
    os.abort()


@pytest.mark.usefixtures("database")  # the server of processes
def test_a_submission_cannot_harm_the_others(
    tmp_path: Path, split: Split, weights: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judge(linear(tmp_path / "a.onnx", weights), split, "imt", 60)
    assert found == measure(tmp_path / "a.onnx", split, "imt")

    pool = [node("GlobalAveragePool", "d", "p"), node("Flatten", "p", "y")]
    first = node("Conv", "f v", "c", pads=[100] * 4)
    slow = [CAST, first, node("Conv", "c w", "d", pads=[16] * 4), *pool]
    tensors = {"v": floats(10, 1, 3, 3), "w": floats(10, 10, 33, 33)}
    path = save(tmp_path / "slow.onnx", slow, tensors, ("N", 1, 8, 8), PIXELS)
    assert judge(path, split, "imt", 0.3) == "takes more than 0.3 seconds"

    context = multiprocessing.get_context("forkserver")
    _, sender = context.Pipe(duplex=False)
    left = context.Process(target=judging._answer, args=(sender, path, split, "imt", 0.0))
    left.start()  # and nobody ends it
    left.join(60)
    assert left.exitcode == -signal.SIGALRM

    large = [*LINEAR[:2], node("MatMul", "g w", "m"), node("ConstantOfShape", "n", "big")]
    large += [node("ReduceMax", "big", "top"), node("Add", "m top", "y")]
    tensors = {"w": weights, "n": np.array([2**36])}  # 256 GiB
    path = save(tmp_path / "large.onnx", large, tensors, ("N", 1, 8, 8), PIXELS)
    answer = judge(path, split, "imt", 60)
    assert isinstance(answer, str)
    assert "ConstantOfShape" in answer

    monkeypatch.setattr(judging, "_answer", die)
    answer = judge(path, split, "imt", 60)
    assert answer == "the process that reads it ended with exit code -6"


# --- the order ---


def figures(accuracy: float, score: float, *notes: str) -> Measured:
    return Measured(accuracy, score, score / 4, 3 * score / 4, 1_000, 900, 12_345, 678, [*notes])


FOUND: dict[str, Measured | str] = {
    "almost": figures(0.89, 0.001),
    "cheap and bad": figures(0.30, 0.0001),
    "dear": figures(0.99, 0.07),
    "dearest": figures(1.0, 0.5),
    "first": figures(0.90, 0.010, "counted <so>"),
    "second": figures(0.95, 0.020),
    "second too": figures(0.95, 0.020),
    "second, but worse": figures(0.94, 0.020),
    "twice no": figures(0.80, 0.6),
    "zero": "damaged",
}


def test_the_order() -> None:
    entries = rank(FOUND, 100, Goals(0.9, 0.05))
    assert [(each.rank, each.name, each.feasible, each.reason) for each in entries] == [
        (1, "first", "yes", ""),
        (2, "second", "yes", ""),
        (2, "second too", "yes", ""),
        (4, "second, but worse", "yes", ""),
        (5, "dear", "no", "the score is above 0.05"),
        (6, "dearest", "no", "the score is above 0.05"),
        (7, "almost", "no", "the accuracy is below 0.9"),
        (8, "twice no", "no", "the accuracy is below 0.9, the score is above 0.05"),
        (9, "cheap and bad", "no", "the accuracy is below 0.9"),
        (None, "zero", "not judged", "damaged"),
    ]
    free = rank(FOUND, 100, Goals(0.9))
    assert [each.name for each in free][3:6] == ["second, but worse", "dear", "dearest"]
    assert [each.feasible for each in free].count("yes") == 6


def test_long_names_stay_apart() -> None:
    names = [f"{'n' * 245}-{number}.onnx" for number in range(2)]  # as long as a file's may be
    entries = rank(dict.fromkeys(names, figures(0.95, 0.02)), 100, Goals(0.9))
    assert [each.name for each in entries] == names


def test_the_interval_of_an_accuracy() -> None:
    (entry,) = rank({"half": figures(0.5, 0.01)}, 100, Goals(0.9))
    assert entry.interval == pytest.approx((0.4038, 0.5962), abs=5e-5)  # Wilson's, of 50 in 100


def test_goals_that_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"--rule: found x, expected one of imt, micronet2019"):
        Goals(0.9, rule="x")
    with pytest.raises(ValueError, match="found nan"):
        Goals(float("nan"))


# --- how it is shown ---

NAMES = ("<script>alert(1)</script>", "=1+1", "[red]b[/red]&amp;", "n\udcff\x1b[31m\nm")
SHOWN = ("<script>alert(1)</script>", "=1+1", "[red]b[/red]&amp;", "n??[31m?m")


class Page(HTMLParser):
    """The tags of a page, the text in its cells, and its caption."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.caption = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["span"]:
            self.caption += data.strip()
        elif self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


@pytest.fixture
def board() -> Leaderboard:
    found = FOUND | {name: figures(0.2, 0.1) for name in NAMES} | {"odd": "found <b>"}
    found["sum"] = "=1+1 has the shape [-1]"
    return Leaderboard(
        rank(found, 100, Goals(0.9, 0.05)), Goals(0.9, 0.05), "a<b", 100, "2026-01-31"
    )


def test_the_page(board: Leaderboard) -> None:
    text = to_page(board)
    assert text.isascii()
    page = Page(text)
    assert not {"script", "img", "b", "a", "link", "iframe"} & set(page.tags)
    assert not [value for name, value in page.attributes if name in ("src", "href", "onclick")]
    assert page.caption == (
        "Accuracy on the 100 test images of a<b, score by the rule imt. Feasible: an accuracy of "
        "at least 0.9 and a score of at most 0.05. 2026-01-31."
    )
    head, *rows = page.rows
    assert head == [*COLUMNS, "note"]
    assert len(rows) == len(board.entries)
    for row, entry in zip(rows, board.entries, strict=True):
        assert row[1:3] == [entry.name, entry.feasible]
        assert row[-1].startswith(entry.reason)
    assert rows[0][-1] == "how it was countedcounted <so>"
    assert {row[1] for row in rows} >= set(SHOWN)
    assert rows[-1] == ["-", "zero", "not judged", *["-"] * 9, "damaged"]
    assert rows[0][:8] == [
        *("1", "first", "yes", "0.9000", "0.8256 to 0.9448", "0.010000", "0.002500", "0.007500")
    ]


@pytest.mark.parametrize(("width", "last"), [(200, "bytes"), (120, "parameters"), (80, "score")])
def test_a_table_has_the_columns_that_fit(board: Leaderboard, width: int, last: str) -> None:
    console = Console(width=width, file=io.StringIO())
    console.print(to_table(board, console))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    (head,) = [line for line in text.splitlines() if line.startswith("rank ")]
    assert head.split("  ")[-1].strip() == last
    assert all(name in text for name in ("<script>alert(1)</sc", *SHOWN[1:]))
    assert "0.8256 to 0.9448" in text
    assert ("no room for" in text) == (last != "bytes")


def test_the_values_for_programs(board: Leaderboard) -> None:
    rows = list(csv.DictReader(io.StringIO(to_rows(board))))
    assert list(rows[0]) == [
        *("rank", "submission", "feasible", "accuracy", "accuracy_low", "accuracy_high", "score"),
        *(
            "score_parameters",
            "score_operations",
            "parameters",
            "nonzeros",
            "macs",
            "bytes",
            "note",
        ),
    ]
    assert rows[0]["rank"] == "1"
    assert rows[0]["note"] == "counted <so>"
    assert float(rows[0]["score"]) == 0.010
    assert (rows[0]["macs"], rows[0]["bytes"]) == ("12345", "678")
    assert "'=1+1" in {row["submission"] for row in rows}  # no formula
    assert "'=1+1 has the shape [-1]" in {row["note"] for row in rows}
    assert set(rows[-1].values()) == {"", "zero", "not judged", "damaged"}


@pytest.fixture(scope="module")
def contest(tmp_path_factory: pytest.TempPathFactory, weights: Array) -> Path:
    folder = tmp_path_factory.mktemp("contest")
    linear(folder / "least squares.onnx", weights)
    (folder / NAMES[1]).mkdir()
    linear(folder / NAMES[1] / "model.onnx", np.zeros_like(weights) + np.eye(64, 10, dtype="f"))
    (folder / "[red].mnz").write_bytes(b"")
    return folder


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> studies.Done:
    """Runs the command in this process, whose server of processes has imported everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["micronet-search", "leaderboard", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            cli.main()
    return studies.Done(int(exit.value.code or 0), *capsys.readouterr())


@pytest.mark.usefixtures("database")
def test_the_command(
    contest: Path, split: Split, weights: Array, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*options: str) -> str:
        done = command(capsys, contest, "--dataset", "digits", "--at-least", "0.85", *options)
        assert (done.code, done.err) == (0, "")
        return done.out

    title, head, best, second, third, *reasons = run().splitlines()
    assert title.startswith("Accuracy on the 359 test images of digits, score by the rule imt.")
    assert head.split()[:3] == ["rank", "submission", "feasible"]
    accuracy = right(split, weights)
    assert best.split()[:5] == ["1", "least", "squares.onnx", "yes", f"{accuracy:.4f}"]
    assert second.split()[:3] == ["2", "=1+1", "no"]
    assert third.split()[:4] == ["-", "[red].mnz", "not", "judged"]
    assert reasons[0] == "=1+1: the accuracy is below 0.85"
    assert reasons[1].startswith("[red].mnz: magic and version: found b''")

    rows = list(csv.DictReader(io.StringIO(run("--format", "csv"))))
    assert [row["submission"] for row in rows] == ["least squares.onnx", "'=1+1", "[red].mnz"]
    assert float(rows[0]["accuracy"]) == pytest.approx(accuracy)
    page = Page(run("--format", "html", "--rule", "micronet2019", "--at-most", "1e-9"))
    assert [row[2] for row in page.rows] == ["feasible", "no", "no", "not judged"]
    assert "score by the rule micronet2019" in page.caption


def test_what_the_command_refuses(
    tmp_path: Path, contest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, error in (
        ((tmp_path, "--dataset", "digits"), "no submission in"),
        ((tmp_path / "x", "--dataset", "digits"), "is no folder, expected one of submissions"),
        ((contest, "--dataset", "x"), "--dataset: found no dataset in x, expected digits"),
        ((contest, "--dataset", "digits", "--rule", "x"), "--rule: found x, expected one of imt"),
    ):
        done = command(capsys, *arguments)
        assert done.code == 2
        assert error in done.error


def test_where_a_dataset_is(tmp_path: Path) -> None:
    for mark, name in (("test/1", "folder"), ("cifar-10-batches-py", "cifar10")):
        (tmp_path / name / mark).mkdir(parents=True)
    (tmp_path / "parquet").mkdir()
    (tmp_path / "parquet/test-0.parquet").touch()
    for name in ("folder", "cifar10", "parquet"):
        root = str(tmp_path / name)
        assert find_dataset(root) == Dataset.model_validate({"name": name, "root": root})
    assert find_dataset("cifar10") == Dataset(name="cifar10", root="data")
