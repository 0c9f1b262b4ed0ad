"""Measures a network that somebody else made, in a process of its own that is bounded."""

import json
import math
import multiprocessing
import os
import resource
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from micronet_search import mnz
from micronet_search.config.loading import read_bytes
from micronet_search.report import explain
from micronet_search.report.score import score
from micronet_search.runtime.session import start
from micronet_search.scoring.graphs.file import MAX_BYTES, printable
from micronet_search.scoring.rules import scores

PACKED, ONNX = "model.mnz", "model.onnx"
MEMORY = 6 * 2**30
"""The bytes that a process may have: Python and its libraries take 0.8 GB of them."""
_BATCH = 250  # images at a time, where the file leaves it open
_MAX_REASON, _MAX_ANSWER = 300, 2**20
_FLOATS = {"float": "float32", "double": "float64"}

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Split:
    """What networks are tested on: uint8 images (N, C, H, W), int64 labels (N,), and classes."""

    images: Array
    labels: Array
    classes: int


@dataclass(frozen=True)
class Measured:
    """The figures of a network; accuracy is 0 to 1.

    The score is the sum of its two parts, `size` has the bytes of the file, and `notes` say how it
    was counted.
    """

    accuracy: float
    score: float
    score_parameters: float
    score_operations: float
    parameters: int
    nonzeros: int
    macs: int
    size: int
    notes: list[str]


def submissions(folder: Path) -> list[Path]:
    """Returns the submissions in a folder by name: files with a network, and folders."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is no folder, expected one of submissions")
    visible = (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))
    found = [path for path in visible if path.suffix.lower() in _READERS or path.is_dir()]
    if not found:
        expected = f"files whose names end in {' or '.join(_READERS)}, or folders with one"
        raise ValueError(f"no submission in {folder}, expected {expected}")
    return found


def judge(path: Path, split: Split, rule: str, seconds: float) -> Measured | str:
    """Measures a submission, or returns in one line why that cannot be done.

    Whatever the file does to the process that reads it, this one goes on.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__])
    receiver, sender = context.Pipe(duplex=False)
    asked = sender, path, split, rule, seconds
    process = context.Process(target=_answer, args=asked, daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            return f"takes more than {seconds:g} seconds"
        answer = json.loads(receiver.recv_bytes(_MAX_ANSWER))
    except (EOFError, OSError):
        process.join()
        return f"the process that reads it ended with exit code {process.exitcode}"
    finally:
        process.kill()
        process.join()
        receiver.close()
    return answer if isinstance(answer, str) else Measured(**answer)


def _answer(sender: Connection, path: Path, split: Split, rule: str, seconds: float) -> None:
    """Sends what is measured, or the reason why not, from a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the other process ends this one
    signal.alarm(math.ceil(seconds) + 1)  # or, where that has died, the operating system
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    memory = MEMORY if hard == resource.RLIM_INFINITY else min(MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, hard))
    for stream in (1, 2):  # what libraries print has names out of the file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    answer: str | dict[str, Any]
    try:
        answer = asdict(measure(path, split, rule))
    except Exception as error:  # from damaged and odd files, of any class
        answer = reason(error, path)
    sender.send_bytes(json.dumps(answer).encode())


def reason(error: Exception, path: Path) -> str:
    """Returns an error as one line of bounded length, without the path of the submission."""
    text = " ".join(explain(error).split()) or type(error).__name__
    for place in (path / PACKED, path / ONNX, path):
        text = text.removeprefix(f"{place}: ")
    return printable(text, _MAX_REASON)


def measure(path: Path, split: Split, rule: str) -> Measured:
    """Scores a network and tests it, in this process.

    Raises:
        Exception: The file is damaged, or not a network that can be judged.
    """
    file = _model(path)
    scored = score(file)
    if scored.uncounted:
        listed = ", ".join(scored.uncounted)
        raise ValueError(f"the cost of {listed} is not known: the score would be a lower bound")
    right = found = 0
    for logits in _READERS[file.suffix.lower()](file, split):
        expected = split.labels[found : found + len(logits)]
        right, found = right + int((logits.argmax(1) == expected).sum()), found + len(logits)
    figures, total = scores(scored.cost)[rule], scored.cost
    return Measured(
        accuracy=right / found,
        score=figures.score,
        score_parameters=figures.parameters,
        score_operations=figures.operations,
        parameters=total.parameters,
        nonzeros=total.nonzeros,
        macs=total.macs,
        size=file.stat().st_size,
        notes=list(scored.notes),
    )


def _model(path: Path) -> Path:
    if not path.is_dir():
        return path
    for file in (path / PACKED, path / ONNX):
        if file.exists():
            if not file.resolve().is_relative_to(path.resolve()):  # to another submission's
                raise ValueError(f"{file.name} is a link out of the folder, expected a file")
            return file
    raise ValueError(f"found neither {PACKED} nor {ONNX} in the folder")


def _run_packed(file: Path, split: Split) -> Iterator[Array]:
    model = mnz.load(file)
    _require_image("uint8", model.image, split)
    _require_logits((len(split.images), model.classes), len(split.images), split)
    yield model(split.images)


def _run_graph(file: Path, split: Split) -> Iterator[Array]:
    """Yields the logits of a batch at a time, of as many images as the file asks for."""
    session = start(read_bytes(file, MAX_BYTES))
    (image,), outputs = session.get_inputs(), session.get_outputs()
    kind = image.type.removeprefix("tensor(").removesuffix(")")
    _require_image(_FLOATS.get(kind, kind), image.shape[1:], split)
    if len(outputs) != 1:
        raise ValueError(f"found {len(outputs)} outputs, expected one: the logits")
    fixed = image.shape[0] if isinstance(image.shape[0], int) else None
    size = fixed or _BATCH
    for at in range(0, len(split.images), size):
        part = split.images[at : at + size]
        # the last batch may be short: it is filled up with its own images
        whole = np.resize(part, (size, *part.shape[1:])) if fixed else part
        (logits,) = session.run(None, {image.name: np.ascontiguousarray(whole)})
        _require_logits(np.shape(logits), len(whole), split)
        yield logits[: len(part)]


_READERS: Mapping[str, Callable[[Path, Split], Iterator[Array]]] = {
    ".mnz": _run_packed,
    ".onnx": _run_graph,
}
"""Runs the network in a file, by the end of its name."""


def _require_image(kind: str, shape: Any, split: Split) -> None:
    found, expected = (kind, *shape), ("uint8", *split.images.shape[1:])
    if found != expected:
        described = f"found an input of {_described(found)}"
        raise ValueError(f"{described}, expected pixels of {_described(expected)}")


def _require_logits(found: tuple[int, ...], images: int, split: Split) -> None:
    if found != (images, split.classes):
        raise ValueError(
            f"found an output of the shape {found} for {images} images, expected logits of the "
            f"shape {(images, split.classes)}"
        )


def _described(image: tuple[Any, ...]) -> str:
    kind, *shape = image
    return f"{kind}, {' x '.join(['N', *map(str, shape)])}"
