"""A dataset as tensors: images to train on, to judge trials by, and to report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset
from micronet_search.data.errors import DataError
from micronet_search.data.images import Images, Normalization
from micronet_search.data.sources import Part, open_source
from micronet_search.data.stratify import stratified

__all__ = ["DataError", "Fingerprint", "Images", "Normalization", "Splits", "describe", "load"]

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Fingerprint:
    """What two splits share if and only if their images and labels are the same.

    Attributes:
        digest: Of shape, pixels and labels.
        sizes: Images of each class.
    """

    digest: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Splits:
    """A dataset, all its images of one shape.

    Attributes:
        train: What networks are fitted to.
        validation: What trials are judged by, taken from the training images.
        test: What is reported at the end.
        classes: Number of classes.
        normalization: Computed from `train`.
        names: Of the classes, in the order of their labels; none where they are not known.
    """

    train: Images
    validation: Images
    test: Images
    classes: int
    normalization: Normalization
    names: tuple[str, ...] = ()

    @property
    def input(self) -> Input:
        """The shape of one image."""
        channels, height, width = self.train.images.shape[1:]
        return Input(channels=channels, height=height, width=width)

    def fingerprints(self) -> dict[str, Fingerprint]:
        """What tells each split from one with other images or labels, by its name."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: _fingerprint(images, self.classes) for name, images in splits.items()}

    def to(self, device: torch.device | str) -> Splits:
        """The same splits on a device."""
        return replace(
            self,
            train=self.train.to(device),
            validation=self.validation.to(device),
            test=self.test.to(device),
        )


def _fingerprint(images: Images, classes: int) -> Fingerprint:
    digest = hashlib.blake2b(repr(images.images.shape).encode(), digest_size=8)
    for tensor in (images.images, images.labels):
        digest.update(tensor.cpu().numpy().tobytes())
    sizes = torch.bincount(images.labels, minlength=classes).tolist()
    return Fingerprint(digest.hexdigest(), tuple(sizes))


def load(dataset: Dataset) -> Splits:
    """Reads a dataset and splits it, the same way for the same configuration.

    Only the images that are used are decoded. CIFAR-10 is downloaded where it is not there yet.

    Raises:
        DataError: The dataset is missing, damaged, or not as expected.
    """
    source = open_source(dataset)
    rows = _rows(dataset, source.train.labels, source.test.labels)
    train = _images(source.train, rows.train)
    classes = _classes(dataset, source.train.labels, source.test.labels)
    return Splits(
        train,
        _images(source.train, rows.validation),
        _images(source.test, rows.test),
        classes,
        Normalization.of(train.images),
        source.names if len(source.names) == classes else (),
    )


def describe(dataset: Dataset) -> tuple[Input, int]:
    """The shape of an image and the number of classes, without decoding the images.

    Nothing is downloaded.

    Raises:
        DataError: As `load` would; damage behind an image's header is not seen.
    """
    if dataset.name == "cifar10":
        train, test = np.arange(50_000) % 10, np.arange(10_000) % 10
        shape = Input(channels=3, height=32, width=32)
    else:
        source = open_source(dataset)
        train, test, shape = source.train.labels, source.test.labels, source.input
    _rows(dataset, train, test)
    return shape, _classes(dataset, train, test)


class _Rows(NamedTuple):
    train: Integers
    validation: Integers
    test: Integers


def _rows(dataset: Dataset, train: Integers, test: Integers) -> _Rows:
    """Which of the stored images each split takes."""
    classes = _classes(dataset, train, test)
    chosen = _limited(train, dataset.limit)
    count = _validation_count(dataset, len(chosen))
    validation, rest = (chosen[rows] for rows in stratified(train[chosen], count))
    for rows, split in ((validation, "validation"), (rest, "training")):
        sizes = np.bincount(train[rows], minlength=classes)
        if not sizes.all():
            raise DataError(
                f"the {split} split of {_place(dataset)} has {len(rows)} images and none of class "
                f"{sizes.argmin()}, expected every class in it: change validation or limit"
            )
    return _Rows(rest, validation, _limited(test, dataset.limit))


def _classes(dataset: Dataset, train: Integers, test: Integers) -> int:
    found = np.unique(train)
    classes = len(found)
    if classes < 2 or found[0] != 0 or found[-1] != classes - 1:
        raise DataError(
            f"the training labels of {_place(dataset)} are {_listed(found)}, expected all integers "
            "from 0 to some K - 1, with K at least 2"
        )
    others = np.setdiff1d(test, found)
    if len(others):
        raise DataError(
            f"the test labels of {_place(dataset)} include {_listed(others)}, expected 0 to "
            f"{classes - 1} as in training"
        )
    return classes


def _limited(labels: Integers, limit: int | None) -> Integers:
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    return stratified(labels, limit)[0]


def _validation_count(dataset: Dataset, images: int) -> int:
    asked = dataset.validation
    count = int(asked) if asked >= 1 else round(asked * images)
    if count >= images:
        raise DataError(
            f"validation takes {count} of the {images} training images of {_place(dataset)}, "
            "expected fewer than there are"
        )
    return count


def _images(part: Part, rows: Integers) -> Images:
    pixels = np.ascontiguousarray(part.read(rows))
    return Images(torch.from_numpy(pixels), torch.from_numpy(part.labels[rows]))


def _place(dataset: Dataset) -> str:
    return dataset.root or dataset.name


def _listed(labels: Integers) -> str:
    shown = ", ".join(map(str, labels[:10]))
    return f"{shown}, ..." if len(labels) > 10 else shown
