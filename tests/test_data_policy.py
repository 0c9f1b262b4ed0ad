"""Each operation of the policies against torchvision's, an image at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import InterpolationMode, TrivialAugmentWide

from micronet_search.data.transforms import BINS, OPERATIONS, apply_policy, policy_counts

FILL = 101
TORCHVISION = TrivialAugmentWide(fill=FILL)
GEOMETRIC = {"ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"}
BLENDS = {"Brightness", "Color", "Contrast", "Sharpness"}


def generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def some(count: int, channels: int = 3, height: int = 11, width: int = 15) -> Tensor:
    shape = (count, channels, height, width)
    return torch.randint(0, 256, shape, generator=generator()).byte()


def theirs(name: str, image: Tensor, index: int, sign: int) -> Tensor:
    """Torchvision's operation at one of its own magnitudes."""
    space, signed = TORCHVISION._AUGMENTATION_SPACE[name]
    magnitudes = space(BINS, image.shape[1], image.shape[2])
    # its 16 pixels are 15.999999, which it cuts to 15
    magnitude = 0.0 if magnitudes is None else round(float(magnitudes[index]), 5)
    return TORCHVISION._apply_image_or_video_transform(
        image,
        name,
        sign * magnitude if signed else magnitude,
        InterpolationMode.NEAREST,
        TORCHVISION._fill,
    )


def test_the_operations_are_torchvisions() -> None:
    assert list(OPERATIONS) == list(TORCHVISION._AUGMENTATION_SPACE)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_torchvisions_at_every_magnitude(name: str, channels: int) -> None:
    drawn = [(index, sign) for index in range(BINS) for sign in (1, -1)]
    # torchvision's translation does not know the side of an image, except that it fits 224 pixels
    sides = (224, 224) if name.startswith("Translate") else (11, 15)
    images = some(len(drawn), channels, *sides)
    strength = torch.tensor([sign * index / 30 for index, sign in drawn])
    found = OPERATIONS[name](images, strength, FILL)
    assert (found.shape, found.dtype) == (images.shape, torch.uint8)
    pairs = zip(images, drawn, strict=True)
    expected = torch.stack([theirs(name, image, *magnitude) for image, magnitude in pairs])
    distance = (found.int() - expected.int()).abs()
    if name in BLENDS:
        assert distance.max() <= 2  # torchvision cuts the grey and the result, this rounds once
    elif name == "AutoContrast":
        assert distance.max() <= 1
    elif name in GEOMETRIC:
        assert (distance > 0).float().mean() < 1e-3  # between two pixels either is the nearest
    elif name == "Solarize":
        # torchvision's thresholds are products that miss some whole numbers by a rounding
        assert (distance > 0).float().mean() < 1e-2
    else:
        assert distance.max() == 0


@pytest.mark.parametrize("name", OPERATIONS)
def test_five_channels_are_changed_as_one_is(name: str) -> None:
    images, strength = some(8, 5), torch.linspace(-1, 1, 8)
    found = OPERATIONS[name](images, strength, FILL)
    if name == "Color":
        assert torch.equal(found, images)
    elif name == "Contrast":
        mean = images.float().mean((1, 2, 3), keepdim=True)
        factor = 1 + 0.99 * strength.view(-1, 1, 1, 1)
        expected = (mean + factor * (images - mean)).clamp(0, 255)
        assert (found - expected).abs().max() < 0.5 + 1e-3
    else:
        alone = [OPERATIONS[name](part, strength, FILL) for part in images.split(1, 1)]
        assert torch.equal(found, torch.cat(alone, 1))


@pytest.mark.parametrize(("side", "pixels"), [(28, 4), (32, 4), (64, 9), (224, 32)])
def test_a_translation_goes_up_to_a_seventh_of_the_side(side: int, pixels: int) -> None:
    images = some(2, 1, side, side)
    right, left = OPERATIONS["TranslateX"](images, torch.tensor([1.0, -1.0]), FILL)
    assert torch.equal(right[..., pixels:], images[0, ..., :-pixels])
    assert torch.equal(left[..., :-pixels], images[1, ..., pixels:])
    assert set(right[..., :pixels].unique().tolist()) == {FILL}


def test_counts_are_those_of_even_draws() -> None:
    found = torch.tensor(policy_counts(700, 40, generator())).float()
    assert found.shape == (700, 14)
    assert torch.equal(found.sum(1), torch.full((700,), 40.0))
    even = 700 * 40 / 14
    assert found.sum(0).sub(even).abs().max() < 5 * even**0.5
    # binomial, not as even as can be
    assert found.var().item() == pytest.approx(40 * 13 / 14**2, rel=0.1)


def test_each_image_gets_one_operation_at_random_and_stays_in_its_place() -> None:
    """Images of two values, one apart: only `AutoContrast` changes them, to 0 and 255."""
    images = torch.arange(1, 101, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 1, 2)
    images[..., 1] += 1
    shares = [70 if name == "Identity" else 0 for name in OPERATIONS]
    shares[list(OPERATIONS).index("AutoContrast")] = 30
    changed = torch.zeros(100)
    for seed in range(200):
        found = apply_policy(images, shares, 0, generator(seed))
        stretched = (found != images).all(3).all(2).all(1)
        assert stretched.sum() == 30
        assert set(found[stretched].unique().tolist()) == {0, 255}
        assert torch.equal(found[~stretched], images[~stretched])
        changed += stretched
    assert changed.sub(60).abs().max() < 5 * (200 * 0.3 * 0.7) ** 0.5


def test_strengths_are_even_and_have_either_sign() -> None:
    images = torch.full((6200, 1, 1, 1), 100, dtype=torch.uint8)
    shares = [6200 if name == "Brightness" else 0 for name in OPERATIONS]
    found = apply_policy(images, shares, 0, generator()).flatten().long()
    values, counts = found.unique(return_counts=True)
    expected = {round(100 + 99 * sign * index / 30) for index in range(31) for sign in (1, -1)}
    assert len(values) == len(expected) == 61
    assert counts[values == 100] == pytest.approx(200, abs=75)
    assert counts[values != 100].sub(100).abs().max() < 50


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_the_generator_alone_decides(channels: int) -> None:
    images = some(28, channels)
    first = apply_policy(images, [2] * 14, FILL, generator(1))
    assert (first.shape, first.dtype) == (images.shape, torch.uint8)
    torch.manual_seed(7)
    assert torch.equal(apply_policy(images, [2] * 14, FILL, generator(1)), first)
    assert not torch.equal(apply_policy(images, [2] * 14, FILL, generator(2)), first)
