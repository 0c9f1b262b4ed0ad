"""A dataset as tensors: images to train on, to judge trials by, and to report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset
from micronet_search.data import DataError
from micronet_search.data.pictures import decode
from micronet_search.data.sources import Integers, Source, StoredSplit, open_source, stratified


@dataclass(frozen=True, eq=False)
class Images:
    """One split of a dataset: images, uint8 (N, C, H, W), and labels, int64 (N,)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device | str) -> Images:
        """Returns the same images on a device."""
        return Images(self.images.to(device), self.labels.to(device))

    def fingerprint(self, classes: int) -> Fingerprint:
        """Returns what is the same for another split if and only if its images and labels are."""
        digest = hashlib.blake2b(repr(self.images.shape).encode(), digest_size=8)
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().numpy().tobytes())
        sizes = torch.bincount(self.labels, minlength=classes).tolist()
        return Fingerprint(digest.hexdigest(), tuple(sizes))


@dataclass(frozen=True)
class Normalization:
    """Computes `(image - mean) * scale`, with one mean and one scale for all channels.

    The mean is an integer, 0 to 255, so that the image minus the mean still is one and zero padding
    is exactly a pixel of the mean's value. The scale is one over the pixels' standard deviation.
    """

    mean: int
    scale: float

    @classmethod
    def of(cls, images: Tensor) -> Normalization:
        """Computes the normalization of uint8 images, over all their pixels and channels."""
        counts = torch.bincount(images.flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.float64, device=images.device)
        mean = (counts @ values / counts.sum()).item()
        deviation = (counts @ (values - mean) ** 2 / counts.sum()).sqrt().item()
        return cls(round(mean), 1.0 / deviation if deviation else 1.0)

    def __call__(self, images: Tensor) -> Tensor:
        """Returns float32 of the same shape from uint8 images."""
        return (images.float() - self.mean) * self.scale


@dataclass(frozen=True)
class Fingerprint:
    """The digest of a split's images and labels, and its number of images of each class."""

    digest: str
    sizes: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Splits:
    """A dataset, all its images of one shape.

    Trials are judged by `validation`, taken from the training images; `test` is for the figures
    that are reported at the end. The names of the classes are empty where they are not known.
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
        """Returns the fingerprint of each split, by its name."""
        return {name: images.fingerprint(self.classes) for name, images in self._images().items()}

    def _images(self) -> dict[str, Images]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    def full(self) -> Splits:
        """Returns splits that have the validation images among the training ones too."""
        parts = (self.train, self.validation)
        images, labels = (torch.cat([getattr(p, n) for p in parts]) for n in ("images", "labels"))
        return replace(self, train=Images(images, labels))

    def to(self, device: torch.device | str) -> Splits:
        """Returns the same splits on a device."""
        moved: dict[str, Any] = {name: images.to(device) for name, images in self._images().items()}
        return replace(self, **moved)


def load(dataset: Dataset) -> Splits:
    """Reads a dataset and splits it, the same way for the same configuration.

    Only the images that are used are decoded. CIFAR-10 is downloaded where it is not there yet.

    Raises:
        DataError: The dataset is missing, damaged, or not as expected.
    """
    source = open_source(dataset)
    classes, *rows = _choose(dataset, source)
    stored = (source.train, source.train, source.test)
    train, validation, test = (
        _images(split, chosen, source.input) for split, chosen in zip(stored, rows, strict=True)
    )
    names = source.names if len(source.names) == classes else ()
    return Splits(train, validation, test, classes, Normalization.of(train.images), names)


def describe(dataset: Dataset) -> tuple[Input, int]:
    """Returns the shape of an image and the number of classes, without any download or pixels.

    Raises:
        DataError: As from `load`, except for damage behind the header of an image.
    """
    source = open_source(dataset, download=False)
    return source.input, _choose(dataset, source)[0]


def _choose(dataset: Dataset, source: Source) -> tuple[int, Integers, Integers, Integers]:
    """Returns the number of classes, and the stored rows of training, validation and test."""
    place, train, test = dataset.root or dataset.name, source.train.labels, source.test.labels
    found = np.unique(train)
    classes = len(found)
    if classes < 2 or found[0] != 0 or found[-1] != classes - 1:
        raise DataError(
            f"the training labels of {place} are {_listed(found)}, expected all integers from 0 to "
            "some K - 1, with K at least 2"
        )
    others = np.setdiff1d(test, found)
    if len(others):
        raise DataError(
            f"the test labels of {place} include {_listed(others)}, expected 0 to {classes - 1} as "
            "in training"
        )
    # at most the limit of each, their classes in proportion
    limited, tested = (
        stratified(labels, min(dataset.limit or len(labels), len(labels)))[0]
        for labels in (train, test)
    )
    asked, images = dataset.validation, len(limited)
    count = int(asked) if asked >= 1 else round(asked * images)
    if count >= images:
        raise DataError(
            f"validation takes {count} of the {images} training images of {place}, expected fewer "
            "than there are"
        )
    validation, rest = (limited[rows] for rows in stratified(train[limited], count))
    for rows, split in ((validation, "validation"), (rest, "training")):
        sizes = np.bincount(train[rows], minlength=classes)
        if not sizes.all():
            raise DataError(
                f"the {split} split of {place} has {len(rows)} images and none of class "
                f"{sizes.argmin()}, expected every class in it: change validation or limit"
            )
    return classes, rest, validation, tested


def _images(split: StoredSplit, rows: Integers, shape: Input) -> Images:
    if isinstance(split.images, np.ndarray):
        pixels = np.ascontiguousarray(split.images[rows])
    else:
        pixels = decode([split.images[row] for row in rows], shape)
    return Images(torch.from_numpy(pixels), torch.from_numpy(split.labels[rows]))


def _listed(labels: Integers) -> str:
    shown = ", ".join(map(str, labels[:10]))
    return f"{shown}, ..." if len(labels) > 10 else shown
