"""Where images come from: scikit-learn, CIFAR-10's archive, parquet files, class folders."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset
from micronet_search.data import pictures, shards
from micronet_search.data.errors import DataError
from micronet_search.data.pictures import Picture
from micronet_search.data.stratify import stratified

_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")  # and hidden files

Integers = NDArray[np.int64]
Pixels = NDArray[np.uint8]
_Encoded = tuple[list[Picture], Integers]
_Read = tuple[_Encoded, _Encoded, Sequence[str]]


@dataclass(frozen=True)
class Part:
    """The training or the test images as they are stored.

    Attributes:
        labels: Of all images, (N,).
        read: The pixels (n, C, H, W) of the rows it is given (n,).
    """

    labels: Integers
    read: Callable[[Integers], Pixels]


@dataclass(frozen=True)
class Source:
    """A dataset as it is stored, with what is known before its images are decoded.

    Attributes:
        input: The shape of one image.
        train: The training images.
        test: The test images.
        names: Of the classes, in the order of their labels; none where they are not stored.
    """

    input: Input
    train: Part
    test: Part
    names: tuple[str, ...]


def open_source(dataset: Dataset) -> Source:
    """The dataset as it is stored.

    Raises:
        DataError: Files are missing, cannot be read, or do not fit together.
    """
    match dataset.name:
        case "digits":
            return _digits()
        case "cifar10":
            return _cifar10(Path(dataset.root or "data"))
        case "parquet":
            read = _read_parquet
        case "folder":
            read = _read_folder
    assert dataset.root is not None
    root = Path(dataset.root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder, expected that of the {dataset.name} dataset")
    try:
        return _pictures(*read(root))
    except OSError as error:  # a folder that may not be listed, a disk that fails
        raise DataError(f"{root} cannot be read ({error}), expected a readable folder") from error


def _pictures(train: _Encoded, test: _Encoded, names: Sequence[str]) -> Source:
    shape = pictures.shape(train[0] + test[0])

    def part(items: list[Picture], labels: Integers) -> Part:
        return Part(labels, lambda rows: pictures.decode([items[row] for row in rows], shape))

    # a file's name, and JSON, may hold what is no text in UTF-8
    texts = (name.encode(errors="replace").decode() for name in names)
    return Source(shape, part(*train), part(*test), tuple(texts))


def _arrays(
    train: tuple[Pixels, Integers], test: tuple[Pixels, Integers], names: Iterable[str]
) -> Source:
    channels, height, width = train[0].shape[1:]

    def part(pixels: Pixels, labels: Integers) -> Part:
        return Part(labels, lambda rows: pixels[rows])

    shape = Input(channels=channels, height=height, width=width)
    return Source(shape, part(*train), part(*test), tuple(names))


def _digits() -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    test, train = stratified(labels, len(labels) // 5)  # there is no official split
    names = map(str, digits.target_names)
    return _arrays((pixels[train], labels[train]), (pixels[test], labels[test]), names)


def _cifar10(root: Path) -> Source:
    from torchvision.datasets import CIFAR10

    def part(train: bool) -> Any:
        try:
            # the one place where pickles are read: torchvision reads those whose MD5 is published
            return CIFAR10(root, train=train, download=True)
        except Exception as error:  # of the network, the disk, the archive or the checksum
            raise DataError(
                f"CIFAR-10 is not in {root} and its download failed ({error}), expected a "
                "connection, or the checked files of cifar-10-batches-py there"
            ) from error

    parts = part(True), part(False)
    train, test = (
        (part.data.transpose(0, 3, 1, 2), np.asarray(part.targets, np.int64)) for part in parts
    )
    return _arrays(train, test, parts[0].classes)


def _read_parquet(root: Path) -> _Read:
    found = {part: sorted(root.glob(f"{part}-*.parquet")) for part in ("train", "test")}
    for part, files in found.items():
        if not files:
            raise DataError(f"no {part}-*.parquet in {root}, expected one or more")
    train, test = (_read_shards(files) for files in found.values())
    return train, test, shards.names(found["train"][0])


def _read_shards(files: list[Path]) -> _Encoded:
    items: list[Picture] = []
    labels = []
    for file in files:
        shard = shards.read(file)
        for row, content in enumerate(shard.images):
            place = f"{file}, row {row}"
            if content is None:
                raise DataError(f"{place} has no image bytes, expected an encoded image")
            items.append(Picture(content, place))
        labels.append(shard.labels)
    if not items:
        raise DataError(f"{files[0]} holds no rows, expected images")
    return items, np.concatenate(labels)


def _read_folder(root: Path) -> _Read:
    classes = {}
    for part in ("train", "test"):
        if not (root / part).is_dir():
            raise DataError(f"no folder {part} in {root}, expected train and test")
        classes[part] = [folder.name for folder in _visible(root / part) if folder.is_dir()]
        if not classes[part]:
            raise DataError(f"no class folders in {root / part}, expected one for each class")
    if classes["train"] != classes["test"]:
        name = min(set(classes["train"]) ^ set(classes["test"]))
        part = "train" if name in classes["train"] else "test"
        raise DataError(
            f"the class {name} is in {root / part} alone, expected it in train and test"
        )
    train, test = (_read_classes(root / part, names) for part, names in classes.items())
    return train, test, classes["train"]


def _read_classes(root: Path, names: list[str]) -> _Encoded:
    files = [_visible(root / name) for name in names]
    for name, of_class in zip(names, files, strict=True):
        if not of_class:
            raise DataError(f"no images in {root / name}, expected one or more")
    items = [Picture(file, str(file)) for of_class in files for file in of_class]
    return items, np.repeat(np.arange(len(names)), [len(of_class) for of_class in files])


def _visible(folder: Path) -> list[Path]:
    """What is in a folder, but for what operating systems leave there."""
    found = (path for path in folder.iterdir() if path.name.lower() not in _LEFT_BY_SYSTEMS)
    return sorted(path for path in found if not path.name.startswith("."))
