"""Augmentation against an image at a time, and the distributions it draws from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator, Tensor

from micronet_search.data.batches import beta, cutmix, erase, mixup
from micronet_search.data.views import VIEWS, Views


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def windows(image: Tensor, padding: int, flip: bool, fill: int) -> list[Tensor]:
    """Everything that a crop of one image can be: by rows, by columns, then mirrored."""
    channels, height, width = image.shape
    padded = torch.full((channels, height + 2 * padding, width + 2 * padding), fill)
    padded[:, padding : padding + height, padding : padding + width] = image
    offsets = range(2 * padding + 1)
    plain = [padded[:, y : y + height, x : x + width] for y in offsets for x in offsets]
    return plain + ([window.flip(2) for window in plain] if flip else [])


@pytest.mark.parametrize(("padding", "flip"), [(0, True), (1, False), (2, True)])
def test_each_image_is_one_of_its_windows_and_all_are_drawn_evenly(
    padding: int, flip: bool
) -> None:
    images = torch.randint(0, 256, (3000, 2, 3, 5), generator=generator()).byte()
    moved = Views.random(len(images), padding, flip, generator(1)).cut(images, 7)
    assert moved.dtype == torch.uint8
    drawn = []
    for image, result in zip(images, moved, strict=True):
        choices = windows(image, padding, flip, 7)
        matching = [index for index, window in enumerate(choices) if torch.equal(window, result)]
        assert len(matching) >= 1
        drawn.append(matching[0])
    counts = torch.bincount(torch.tensor(drawn), minlength=len(choices)).float()
    even = len(images) / len(choices)
    assert counts.sub(even).abs().max() < 5 * even**0.5


def test_nothing_to_do_changes_nothing() -> None:
    images = torch.ones((2, 3, 4, 4))
    assert Views.random(2, 0, False, generator()).cut(images, 0) is images


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_each_view_has_the_number_of_its_window(padding: int, flip: bool) -> None:
    """Numbers count the windows of the widest crop; a narrower one draws those in the middle."""
    images = torch.randint(0, 256, (400, 2, 5, 4), generator=generator()).byte()
    drawn = Views.random(len(images), padding, flip, generator(1))
    numbers = drawn.numbers()
    for image, result, number in zip(images, drawn.cut(images, 7), numbers.tolist(), strict=True):
        assert torch.equal(windows(image, 2, True, 7)[number], result)
    assert len(numbers.unique()) == (2 * padding + 1) ** 2 * (1 + flip)


def test_a_number_is_the_same_window_of_every_image() -> None:
    images = torch.randint(0, 256, (3, 2, 5, 4), generator=generator()).byte()
    assert len(windows(images[0], 2, True, 7)) == VIEWS
    for number in range(VIEWS):
        views = Views.numbered(number, len(images), torch.device("cpu"))
        assert views.numbers().tolist() == [number] * len(images)
        expected = [windows(image, 2, True, 7)[number] for image in images]
        assert torch.equal(views.cut(images, 7), torch.stack(expected))


def erased(height: int, width: int, count: int = 4000, probability: float = 1.0) -> Tensor:
    """Which pixels of single-channel images are erased."""
    images = torch.zeros((count, 1, height, width), dtype=torch.uint8)
    return erase(images, probability, 9, generator())[:, 0] == 9


def test_what_is_erased_is_a_rectangle_of_all_channels() -> None:
    images = torch.randint(0, 9, (50, 3, 12, 16), generator=generator()).byte()
    found = erase(images, 1.0, 9, generator(1))
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    for image, result in zip(images, found, strict=True):
        box = (result == 9)[0]
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns[None, :])
        assert rows.int().diff().abs().sum() <= 2  # without a gap
        assert columns.int().diff().abs().sum() <= 2
        assert torch.equal(result, torch.where(box, 9, image))


def test_a_share_of_the_images_is_erased() -> None:
    changed = erased(12, 12, probability=0.25).flatten(1).any(1)
    assert changed.sum() == pytest.approx(1000, abs=5 * 750**0.5)


def test_erased_areas_and_aspects_are_uniform() -> None:
    boxes = erased(200, 200, count=1500)
    heights, widths = boxes.any(2).sum(1).double(), boxes.any(1).sum(1).double()
    whole = (heights < 200) & (widths < 200)
    assert whole.double().mean() > 0.99
    area = (heights * widths)[whole] / 200**2
    assert area.min() > 0.018
    assert area.max() < 0.335
    assert area.mean().item() == pytest.approx((0.02 + 0.33) / 2, abs=0.01)
    aspect = (heights / widths)[whole].log()
    assert aspect.abs().max() < math.log(3.4) + 0.05
    assert aspect.mean().item() == pytest.approx(math.log(0.3 * 3.3) / 2, abs=0.08)


def test_rectangles_lie_everywhere_and_are_cut_to_the_image() -> None:
    """In images of one row nearly every rectangle is as high as the image."""
    boxes = erased(1, 40)[:, 0]
    lengths = boxes.sum(1)
    assert lengths.min() >= 1
    assert lengths.max() <= 40
    short = boxes[lengths == lengths.mode().values]
    starts = short.int().argmax(1).bincount()
    even = len(short) / len(starts)
    assert len(starts) == 40 - lengths.mode().values + 1
    assert starts.sub(even).abs().max() < 5 * even**0.5


def test_erasing_is_drawn_from_its_generator_alone() -> None:
    images = torch.ones((20, 5, 8, 8), dtype=torch.uint8)
    first = erase(images, 0.5, 0, generator(1))
    torch.manual_seed(7)
    assert torch.equal(erase(images, 0.5, 0, generator(1)), first)
    assert erase(images, 0.0, 0, generator(1)) is images


def of_one_class_each(count: int = 64) -> tuple[Tensor, Tensor]:
    """Constant images whose value is their class, so that the means of pixels tell shares."""
    targets = torch.eye(count)
    images = torch.arange(count).float().view(-1, 1, 1, 1).expand(-1, 3, 8, 8)
    return images, targets


@pytest.mark.parametrize("mix", [mixup, cutmix])
@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_targets_are_the_shares_of_the_pixels(mix, alpha: float) -> None:
    images, targets = of_one_class_each()
    mixed, shares = mix(images, targets, alpha, generator())
    assert torch.allclose(shares.sum(1), torch.ones(64))
    assert shares.min() >= 0
    classes = torch.arange(64).float()
    assert torch.allclose(mixed.mean((1, 2, 3)), shares @ classes, atol=1e-3)
    assert (shares > 0).sum(1).max() == 2
    own = shares.diagonal()
    assert len(own.unique()) > 10  # a share for each image, not one for the batch


def test_mixup_blends_two_images() -> None:
    images, targets = of_one_class_each()
    mixed, _ = mixup(images, targets, 1.0, generator())
    assert torch.equal(mixed, mixed[:, :1, :1, :1].expand_as(mixed))


def test_cutmix_pastes_one_box() -> None:
    images, targets = of_one_class_each()
    mixed, shares = cutmix(images, targets, 1.0, generator())
    pasted = mixed != images
    assert pasted.any()
    for own, mask, share in zip(range(64), pasted, shares, strict=True):
        assert torch.equal(mask, mask[:1].expand_as(mask))
        rows, columns = mask[0].any(1), mask[0].any(0)
        assert torch.equal(mask[0], rows[:, None] & columns[None, :])
        for side in (rows, columns):
            assert side.int().diff().abs().sum() <= 2  # without a gap
        pixels = mask[0].sum() / 64
        assert share[own] == pytest.approx(1 - pixels.item())


@pytest.mark.parametrize("alpha", [1e-3, 0.1, 0.4, 1.0, 3.0])
def test_beta_has_its_mean_and_variance(alpha: float) -> None:
    drawn = beta(alpha, 100_000, generator()).double()
    assert drawn.isfinite().all()
    assert drawn.min() >= 0
    assert drawn.max() <= 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.006)
    assert drawn.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)


def test_beta_of_one_is_uniform() -> None:
    counts = torch.histc(beta(1.0, 100_000, generator()), 10, 0, 1)
    assert counts.sub(10_000).abs().max() < 500
