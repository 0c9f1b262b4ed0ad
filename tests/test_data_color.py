"""Changes of colour against torchvision's, an image at a time, and the factors that are drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from micronet_search.config.training import ColorJitter
from micronet_search.data import transforms

Change = Callable[[Tensor, Tensor], Tensor]


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def some(count: int, channels: int = 3, height: int = 5, width: int = 7) -> Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=generator()).byte()


def one_by_one(images: Tensor, change: Callable[[Tensor, float], Tensor], by: Tensor) -> Tensor:
    """Torchvision's float images run from 0 to 1."""
    pairs = zip(images, by.tolist(), strict=True)
    return torch.stack([255 * change(image / 255, value) for image, value in pairs])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ours", "theirs", "low", "high"),
    [
        pytest.param(transforms.brightness, functional.adjust_brightness, 0, 2, id="brightness"),
        pytest.param(transforms.contrast, functional.adjust_contrast, 0, 2, id="contrast"),
        pytest.param(transforms.saturation, functional.adjust_saturation, 0, 2, id="saturation"),
        pytest.param(transforms.sharpness, functional.adjust_sharpness, 0, 2, id="sharpness"),
        pytest.param(transforms.hue, functional.adjust_hue, -0.5, 0.5, id="hue"),
    ],
)
def test_each_change_is_torchvisions(
    channels: int, ours: Change, theirs: Callable[[Tensor, float], Tensor], low: float, high: float
) -> None:
    images, by = some(21, channels).float(), torch.linspace(low, high, 21)
    images[1::4] = 90.0  # grey
    images[2::4, 0] = 255.0  # saturated
    found = ours(images, by.view(-1, 1, 1, 1))
    torch.testing.assert_close(found, one_by_one(images, theirs, by), atol=1e-3, rtol=0)


def test_autocontrast_is_torchvisions() -> None:
    images = some(8).float() / 3 + 40
    images[1, 1] = 70.0
    expected = 255 * functional.autocontrast(images / 255)
    torch.testing.assert_close(transforms.autocontrast(images), expected)


@pytest.mark.parametrize("change", [transforms.saturation, transforms.hue])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_what_needs_three_channels_leaves_others_alone(change: Change, channels: int) -> None:
    images = some(4, channels).float()
    assert torch.equal(change(images, torch.full((4, 1, 1, 1), 0.3)), images)


def test_contrast_of_five_channels_is_about_their_mean() -> None:
    images = some(4, 5).float()
    mean = images.mean((1, 2, 3), keepdim=True)
    found = transforms.contrast(images, torch.full((4, 1, 1, 1), 0.25))
    torch.testing.assert_close(found, mean + 0.25 * (images - mean))


def test_images_of_two_pixels_have_no_inside_to_sharpen() -> None:
    images = some(4, 3, 2, 9).float()
    assert torch.equal(transforms.sharpness(images, torch.full((4, 1, 1, 1), 2.0)), images)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_jitter_keeps_shape_and_type_and_its_generator_alone_decides(channels: int) -> None:
    images = some(6, channels)
    config = ColorJitter(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5)
    first = transforms.jitter(images, config, generator(1))
    assert (first.shape, first.dtype) == (images.shape, torch.uint8)
    torch.manual_seed(7)
    assert torch.equal(transforms.jitter(images, config, generator(1)), first)
    assert not torch.equal(transforms.jitter(images, config, generator(2)), first)


def test_jitter_of_nothing_changes_nothing() -> None:
    images = some(2)
    assert transforms.jitter(images, ColorJitter(), generator()) is images


def test_jitter_is_its_changes_in_order() -> None:
    images = some(8)
    config = ColorJitter(brightness=0.3, contrast=0.6, saturation=0.9, hue=0.2)
    moves = 2 * torch.rand((4, 8), generator=generator(5)) - 1
    expected = images.float()
    for change, largest, move in [
        (functional.adjust_brightness, 0.3, moves[0]),
        (functional.adjust_contrast, 0.6, moves[1]),
        (functional.adjust_saturation, 0.9, moves[2]),
    ]:
        expected = one_by_one(expected, change, 1 + largest * move)
    expected = one_by_one(expected, functional.adjust_hue, 0.2 * moves[3])
    found = transforms.jitter(images, config, generator(5)).float()
    assert (found - expected).abs().max() < 0.5 + 1e-2


def test_factors_are_uniform_around_one() -> None:
    images = torch.full((4000, 1, 1, 1), 100, dtype=torch.uint8)
    found = transforms.jitter(images, ColorJitter(brightness=0.4), generator()).flatten().float()
    assert (found.min(), found.max()) == (60, 140)
    counts = torch.histc(found, 8, 60, 140)
    assert counts.sub(500).abs().max() < 5 * 500**0.5


def test_turns_are_uniform_around_none() -> None:
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(1, 3, 1, 1).expand(4000, 3, 1, 1)
    found = transforms.jitter(red, ColorJitter(hue=1 / 6), generator())[:, :, 0, 0].float()
    assert torch.equal(found[:, 0], torch.full((4000,), 255.0))  # between magenta and yellow
    turns = (found[:, 1] - found[:, 2]) / 255 / 6
    counts = torch.histc(turns, 8, -1 / 6, 1 / 6)
    assert counts.sub(500).abs().max() < 5 * 500**0.5
