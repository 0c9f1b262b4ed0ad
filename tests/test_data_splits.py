"""The splits: shapes, proportions, determinism, and what cannot be split."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch import Tensor

from micronet_search.config.network import Input
from micronet_search.config.sweep import Dataset
from micronet_search.data import DataError
from micronet_search.data.sources import stratified
from micronet_search.data.splits import Images, Normalization, describe, load

DIGITS = Dataset(name="digits", validation=0.2)


def fingerprints(images: Images) -> set[bytes]:
    return {image.numpy().tobytes() for image in images.images}


def counts(labels: Tensor) -> list[int]:
    return torch.bincount(labels).tolist()


def test_digits_are_three_stratified_splits() -> None:
    splits = load(DIGITS)
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [1150, 288, 359]
    assert splits.classes == 10
    assert splits.input == Input(channels=1, height=8, width=8)
    assert splits.train.images.dtype == torch.uint8
    assert splits.train.images.shape == (1150, 1, 8, 8)
    assert (splits.train.images.min(), splits.train.images.max()) == (0, 255)
    assert splits.train.labels.dtype == torch.int64
    for split, share in ((splits.train, 0.64), (splits.validation, 0.16), (splits.test, 0.2)):
        sizes = np.bincount(
            np.concatenate([s.labels for s in (splits.train, splits.validation, splits.test)])
        )
        assert np.abs(np.array(counts(split.labels)) - share * sizes).max() < 2


def test_no_image_is_in_two_splits() -> None:
    splits = load(DIGITS)
    parts = [fingerprints(s) for s in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == 1797
    assert len(set.union(*parts)) == 1797


def test_the_configuration_alone_decides() -> None:
    np.random.seed(1)
    torch.manual_seed(1)
    first = load(DIGITS)
    torch.manual_seed(2)
    second = load(DIGITS)
    assert torch.equal(first.train.images, second.train.images)
    assert torch.equal(first.validation.labels, second.validation.labels)


@pytest.mark.parametrize(("validation", "expected"), [(100, 100), (0.25, 360)])
def test_validation_is_a_count_or_a_share(validation: float, expected: int) -> None:
    splits = load(Dataset(name="digits", validation=validation))
    assert len(splits.validation) == expected
    assert len(splits.train) == 1438 - expected


def test_a_limit_bounds_training_with_validation_and_test() -> None:
    splits = load(Dataset(name="digits", validation=0.2, limit=100))
    assert [len(s) for s in (splits.train, splits.validation, splits.test)] == [80, 20, 100]
    assert min(counts(splits.train.labels)) >= 7
    assert counts(splits.validation.labels) == [2] * 10


def test_a_limit_above_the_size_changes_nothing() -> None:
    limited = load(Dataset(name="digits", validation=0.2, limit=1438))
    assert torch.equal(limited.train.images, load(DIGITS).train.images)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"validation": 1438}, "validation takes 1438 of the 1438 training images of digits"),
        ({"validation": 200, "limit": 100}, "validation takes 200 of the 100 training images"),
        ({"validation": 5}, "validation split of digits has 5 images and none of class"),
        ({"validation": 1433}, "training split of digits has 5 images and none of class"),
        ({"limit": 5}, "validation split of digits has 0 images and none of class 0"),
    ],
)
@pytest.mark.parametrize("use", [load, describe])
def test_splits_that_are_too_small(use, options: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        use(Dataset(name="digits", **options))


def test_describe_agrees_with_load() -> None:
    splits = load(DIGITS)
    assert describe(DIGITS) == (splits.input, splits.classes)


def test_cifar10_is_described_without_a_download() -> None:
    dataset = Dataset(name="cifar10", root="nowhere")
    assert describe(dataset) == (Input(channels=3, height=32, width=32), 10)
    with pytest.raises(DataError, match="takes 50000 of the 50000 training images"):
        describe(dataset.model_copy(update={"validation": 50_000}))


def test_to_moves_every_split() -> None:
    splits = load(DIGITS).to("meta")
    for split in (splits.train, splits.validation, splits.test):
        assert split.images.device.type == split.labels.device.type == "meta"
    assert splits.classes == 10


@pytest.mark.parametrize("count", [0, 1, 7, 50, 99, 100])
def test_stratified_keeps_proportions_to_within_one(count: int) -> None:
    labels = np.repeat([2, 0, 1], [61, 30, 9])
    drawn, others = stratified(labels, count)
    assert len(drawn) == count
    assert sorted([*drawn, *others]) == list(range(100))
    exact = np.array([30, 9, 61]) * count / 100
    assert np.abs(np.bincount(labels[drawn], minlength=3) - exact).max() < 1


def test_normalization_of_known_pixels() -> None:
    images = torch.tensor([0, 0, 255, 255, 10], dtype=torch.uint8).view(1, 1, 1, 5)
    normalization = Normalization.of(images)
    assert normalization.mean == 104
    assert normalization.scale == pytest.approx(1 / images.double().std(correction=0).item())
    padded = torch.tensor([104], dtype=torch.uint8)
    assert normalization(padded).item() == 0.0
    assert normalization(padded).dtype == torch.float32


def test_normalization_of_training_images_alone() -> None:
    splits = load(DIGITS)
    assert splits.normalization == Normalization.of(splits.train.images)
    normalized = splits.normalization(splits.train.images)
    assert abs(normalized.mean()) < 0.5 * splits.normalization.scale
    assert normalized.std() == pytest.approx(1.0, abs=1e-3)


def test_normalization_of_one_grey_has_no_scale() -> None:
    assert Normalization.of(torch.full((2, 1, 3, 3), 7, dtype=torch.uint8)) == Normalization(7, 1.0)


@pytest.mark.cifar
def test_cifar10_from_parquet_files() -> None:
    if "MICRONET_CIFAR10" not in os.environ:
        pytest.skip("MICRONET_CIFAR10 names no folder")
    dataset = Dataset(name="parquet", root=os.environ["MICRONET_CIFAR10"], validation=5000)
    splits = load(dataset)
    assert describe(dataset) == (splits.input, splits.classes)
    assert splits.input == Input(channels=3, height=32, width=32)
    assert counts(splits.train.labels) == [4500] * 10
    assert counts(splits.validation.labels) == [500] * 10
    assert counts(splits.test.labels) == [1000] * 10
    assert 115 < splits.normalization.mean < 125
    assert 1 / splits.normalization.scale == pytest.approx(64, abs=2)
