"""Where images come from: `SOURCES` has one function for each name that a dataset may have."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from micronet_search.config.network import Input
from micronet_search.config.sweep import SHAPES, Dataset
from micronet_search.data import DataError, pictures, shards
from micronet_search.data.pictures import Picture

SEED = 20190
"""Seed of every choice of images, so that it depends on the dataset's configuration alone."""
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini")  # and hidden files

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class StoredSplit:
    """Training or test images as they are stored: encoded, or pixels (N, C, H, W)."""

    images: Sequence[Picture] | NDArray[np.uint8]
    labels: Integers


@dataclass(frozen=True)
class Source:
    """A dataset as it is stored. `names`, those of the classes, are empty where not stored."""

    input: Input
    train: StoredSplit
    test: StoredSplit
    names: tuple[str, ...] = ()


_Read = tuple[StoredSplit, StoredSplit, Sequence[str]]


def open_source(dataset: Dataset, *, download: bool = True) -> Source:
    """Opens a dataset; with `download` off, CIFAR-10 has no images, and labels in another order."""
    if dataset.name == "cifar10" and not download:
        train, test = (StoredSplit([], np.arange(images) % 10) for images in (50_000, 10_000))
        return Source(SHAPES["cifar10"], train, test)
    return SOURCES[dataset.name](dataset)


def stratified(labels: Integers, count: int) -> tuple[Integers, Integers]:
    """Returns `count` rows with their classes in proportion, and the others, both in rising order.

    The counts of the classes are rounded by the method of largest remainders. scikit-learn's
    `train_test_split` refuses counts close to none or all of the rows.
    """
    sizes = np.bincount(labels)
    quotas, remainders = np.divmod(sizes * count, len(labels))
    largest = np.argsort(-remainders, kind="stable")[: count - quotas.sum()]
    quotas[largest] += 1
    shuffled = np.random.default_rng(SEED).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    rank = np.arange(len(labels)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    drawn = rank < quotas[labels[by_class]]
    return np.sort(by_class[drawn]), np.sort(by_class[~drawn])


def _digits(dataset: Dataset) -> Source:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = np.rint(digits.images * (255 / 16)).astype(np.uint8)[:, None]
    labels = digits.target.astype(np.int64)
    test, train = (
        StoredSplit(pixels[rows], labels[rows])
        for rows in stratified(labels, len(labels) // 5)  # there is no official split
    )
    return Source(SHAPES["digits"], train, test, tuple(map(str, digits.target_names)))


def _cifar10(dataset: Dataset) -> Source:
    from torchvision.datasets import CIFAR10

    root = Path(dataset.root or "data")
    try:
        # the one place where pickles are read: torchvision reads those whose MD5 is published
        stored = [CIFAR10(root, train=train, download=True) for train in (True, False)]
    except Exception as error:  # of the network, the disk, the archive or the checksum
        raise DataError(
            f"CIFAR-10 is not in {root} and its download failed ({error}), expected a "
            "connection, or the checked files of cifar-10-batches-py there"
        ) from error
    train, test = (
        StoredSplit(split.data.transpose(0, 3, 1, 2), np.asarray(split.targets, np.int64))
        for split in stored
    )
    return Source(SHAPES["cifar10"], train, test, tuple(stored[0].classes))


def _encoded(dataset: Dataset, read: Callable[[Path], _Read]) -> Source:
    """Opens a folder of encoded images, with a function that finds both splits and the names."""
    assert dataset.root is not None
    root = Path(dataset.root)
    if not root.is_dir():
        raise DataError(f"{root} is no folder, expected that of the {dataset.name} dataset")
    try:
        train, test, names = read(root)
        shape = pictures.shape([*train.images, *test.images])
    except OSError as error:  # a folder that may not be listed, a disk that fails
        raise DataError(f"{root} cannot be read ({error}), expected a readable folder") from error
    # the name of a file, and JSON, may hold what is no text in UTF-8
    texts = (name.encode(errors="replace").decode() for name in names)
    return Source(shape, train, test, tuple(texts))


def _parquet(root: Path) -> _Read:
    splits, files = [], {}
    for split in ("train", "test"):
        files[split] = sorted(root.glob(f"{split}-*.parquet"))
        if not files[split]:
            raise DataError(f"no {split}-*.parquet in {root}, expected one or more")
    for found in files.values():
        read = [shards.read(file) for file in found]
        items = [
            Picture(content, f"{file}, row {row}")
            for file, shard in zip(found, read, strict=True)
            for row, content in enumerate(shard.images)
        ]
        if not items:
            raise DataError(f"{found[0]} holds no rows, expected images")
        splits.append(StoredSplit(items, np.concatenate([shard.labels for shard in read])))
    return splits[0], splits[1], shards.names(files["train"][0])


def _class_folders(root: Path) -> _Read:
    classes = {}
    for split in ("train", "test"):
        if not (root / split).is_dir():
            raise DataError(f"no folder {split} in {root}, expected train and test")
        classes[split] = [folder.name for folder in _visible(root / split) if folder.is_dir()]
        if not classes[split]:
            raise DataError(f"no class folders in {root / split}, expected one for each class")
    if classes["train"] != classes["test"]:
        name = min(set(classes["train"]) ^ set(classes["test"]))
        split = "train" if name in classes["train"] else "test"
        raise DataError(
            f"the class {name} is in {root / split} alone, expected it in train and test"
        )
    splits = []
    for split, names in classes.items():
        items, labels = [], []
        for label, folder in enumerate(root / split / name for name in names):
            files = _visible(folder)
            if not files:
                raise DataError(f"no images in {folder}, expected one or more")
            items += [Picture(file, str(file)) for file in files]
            labels += [label] * len(files)
        splits.append(StoredSplit(items, np.array(labels)))
    return splits[0], splits[1], classes["train"]


def _visible(folder: Path) -> list[Path]:
    """Lists a folder, without hidden files and those that operating systems leave there."""
    found = (path for path in folder.iterdir() if path.name.lower() not in _LEFT_BY_SYSTEMS)
    return sorted(path for path in found if not path.name.startswith("."))


SOURCES: dict[str, Callable[[Dataset], Source]] = {
    "digits": _digits,
    "cifar10": _cifar10,
    "parquet": partial(_encoded, read=_parquet),
    "folder": partial(_encoded, read=_class_folders),
}
"""Opens a dataset, by the names of `config.sweep.Dataset`."""
