"""Rotations against torchvision's, an image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode, functional

from micronet_search.data.transforms import rotate, turn, warp


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def some(count: int, channels: int = 3, height: int = 6, width: int = 9) -> Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=generator()).byte()


@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9), (5, 12)])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_a_turn_is_torchvisions(height: int, width: int, channels: int) -> None:
    images, degrees = some(25, channels, height, width), torch.linspace(-180, 180, 25)
    found = warp(images, turn(degrees), 120, "bilinear")
    expected = torch.stack(
        [
            functional.rotate(image.float() - 120, angle, InterpolationMode.BILINEAR) + 120
            for image, angle in zip(images, degrees.tolist(), strict=True)
        ]
    )
    assert found.dtype == torch.uint8
    assert (found.float() - expected).abs().max() < 0.5 + 1e-2


def test_a_quarter_of_a_turn_by_hand() -> None:
    image = torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).view(1, 1, 2, 2)
    found = warp(image, turn(torch.tensor([90.0])), 0, "nearest")
    assert found.flatten().tolist() == [2, 4, 1, 3]


def test_what_comes_from_outside_is_filled() -> None:
    images = torch.full((200, 1, 9, 9), 77, dtype=torch.uint8)
    assert set(rotate(images, 180.0, 77, generator()).unique().tolist()) == {77}
    corner = rotate(images, 180.0, 0, generator())[:, 0, 0, 0]
    assert (corner == 0).any()


def test_angles_are_uniform() -> None:
    """A dark dot on the right of the centre tells the angle."""
    images = torch.full((400, 1, 201, 201), 255, dtype=torch.uint8)
    images[:, :, 99:102, 179:182] = 0
    turned = (255 - rotate(images, 60.0, 255, generator())[:, 0].float()) / 255
    place = torch.arange(201) - 100.0
    down, across = (turned.sum(2) * place).sum(1), (turned.sum(1) * place).sum(1)
    angles = torch.rad2deg(torch.atan2(-down, across))
    assert angles.abs().max() <= 60.1
    counts = torch.histc(angles, 4, -60, 60)
    assert counts.sub(100).abs().max() < 5 * 100**0.5


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_generator_alone_decides(channels: int) -> None:
    images = some(6, channels)
    first = rotate(images, 30.0, 9, generator(1))
    assert first.shape == images.shape
    torch.manual_seed(7)
    assert torch.equal(rotate(images, 30.0, 9, generator(1)), first)
    assert not torch.equal(rotate(images, 30.0, 9, generator(2)), first)


def test_no_angle_changes_nothing() -> None:
    images = some(2)
    assert rotate(images, 0.0, 0, generator()) is images
