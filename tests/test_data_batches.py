"""Batches: what an epoch holds, and that a seed repeats it."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from micronet_search.config.training import Augmentation, ColorJitter
from micronet_search.data.batches import batches_in_epoch, evaluation_batches, training_batches
from micronet_search.data.splits import Images, Normalization

PLAIN = Augmentation()
EVERYTHING = Augmentation(
    crop=2,
    flip=True,
    rotation=20.0,
    jitter=ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1),
    policy="rand",
    erasing=0.5,
    mixup=1.0,
    cutmix=1.0,
    mix_probability=0.8,
)


def numbered(count: int, classes: int = 5) -> Images:
    """Images that each hold their own number in every pixel."""
    numbers = torch.arange(count, dtype=torch.uint8)
    return Images(numbers.view(-1, 1, 1, 1).expand(-1, 3, 4, 4), numbers.long() % classes)


def epoch(
    images: Images, augmentation: Augmentation = PLAIN, size: int = 8, seed: int = 0
) -> list[tuple[Tensor, Tensor]]:
    generator = Generator(images.images.device).manual_seed(seed)
    normalization = Normalization(0, 1.0)
    return list(training_batches(images, normalization, augmentation, size, 5, generator))


@pytest.mark.parametrize(("count", "size"), [(20, 8), (24, 8), (3, 8), (8, 8), (5, 1)])
def test_the_last_short_batch_is_dropped_unless_alone(count: int, size: int) -> None:
    batches = epoch(numbered(count), size=size)
    assert len(batches) == batches_in_epoch(count, size)
    assert {len(images) for images, _ in batches} == {min(count, size)}
    seen = torch.cat([images[:, 0, 0, 0] for images, _ in batches]).tolist()
    assert len(set(seen)) == len(seen)


def test_images_are_shuffled_floats_with_one_hot_targets() -> None:
    (images, targets), *_ = epoch(numbered(64), size=64)
    numbers = images[:, 0, 0, 0]
    assert images.dtype == targets.dtype == torch.float32
    assert images.shape == (64, 3, 4, 4)
    assert targets.shape == (64, 5)
    assert numbers.tolist() != sorted(numbers.tolist())
    assert torch.equal(targets.argmax(1), numbers.long() % 5)
    assert torch.equal(targets.sum(1), torch.ones(64))


@pytest.mark.parametrize("augmentation", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_the_seed_alone_decides(augmentation: Augmentation) -> None:
    torch.manual_seed(1)
    first = epoch(numbered(64), augmentation)
    torch.manual_seed(2)
    again, other = epoch(numbered(64), augmentation), epoch(numbered(64), augmentation, seed=1)
    for batch, same in zip(first, again, strict=True):
        assert torch.equal(batch[0], same[0])
        assert torch.equal(batch[1], same[1])
    assert not all(torch.equal(a[0], b[0]) for a, b in zip(first, other, strict=True))


def test_one_generator_gives_another_order_in_the_next_epoch() -> None:
    generator = Generator().manual_seed(0)
    images, normalization = numbered(32), Normalization(0, 1.0)
    orders = [
        next(training_batches(images, normalization, PLAIN, 32, 5, generator))[0] for _ in range(2)
    ]
    assert not torch.equal(*orders)


@pytest.mark.parametrize("augmentation", [PLAIN, EVERYTHING], ids=["plain", "everything"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_batches_have_the_shape_of_the_images(augmentation: Augmentation, channels: int) -> None:
    images = Images(torch.full((20, channels, 6, 9), 50, dtype=torch.uint8), torch.zeros(20).long())
    for batch, targets in epoch(images, augmentation):
        assert (batch.shape, batch.dtype) == ((8, channels, 6, 9), torch.float32)
        assert targets.shape == (8, 5)
        assert batch.isfinite().all()


@pytest.mark.parametrize(
    "augmentation",
    [
        pytest.param(Augmentation(crop=2, flip=True), id="crop"),
        pytest.param(Augmentation(rotation=45.0), id="rotation"),
        pytest.param(Augmentation(erasing=1.0), id="erasing"),
    ],
)
def test_what_is_exposed_or_blanked_is_zero_after_normalization(augmentation: Augmentation) -> None:
    """Images that hold the mean alone, and so do what is added."""
    images = Images(torch.full((50, 3, 8, 8), 121, dtype=torch.uint8), torch.zeros(50).long())
    generator = Generator().manual_seed(0)
    ((batch, _),) = training_batches(
        images, Normalization(121, 0.5), augmentation, 50, 2, generator
    )
    assert set(batch.unique().tolist()) == {0.0}


def test_trivial_leaves_most_flat_images_and_rand_fewer() -> None:
    """Of 14 operations only some change an image of one value without an exposed border."""
    images = Images(torch.full((4000, 1, 4, 4), 90, dtype=torch.uint8), torch.zeros(4000).long())
    shares = []
    for policy in ("trivial", "rand"):
        generator = Generator().manual_seed(0)
        ((batch, _),) = training_batches(
            images, Normalization(90, 1.0), Augmentation(policy=policy), 4000, 2, generator
        )
        shares.append((batch == 0).flatten(1).all(1).float().mean().item())
    once, twice = shares
    # the brightness but for no strength; posterized by 2 bits or more; solarized by 165 of 255
    expected = 1 - (60 / 62 + sum(round(6 * k / 30) > 1 for k in range(31)) / 31 + 11 / 31) / 14
    assert once == pytest.approx(expected, abs=0.03)
    assert twice == pytest.approx(once**2, abs=0.03)


def test_padding_is_zero_after_normalization() -> None:
    images = Images(torch.full((50, 3, 4, 4), 200, dtype=torch.uint8), torch.zeros(50).long())
    batches = training_batches(
        images, Normalization(121, 0.5), Augmentation(crop=2), 50, 2, Generator().manual_seed(0)
    )
    batch, _ = next(batches)
    assert set(batch.unique().tolist()) == {0.0, 39.5}


def test_mixup_and_cutmix_take_turns() -> None:
    both = Augmentation(mixup=1.0, cutmix=1.0)
    constant = [
        bool((images == images[:, :1, :1, :1]).all())  # mixup of constant images is constant
        for images, _ in epoch(numbered(240), both, size=2, seed=3)
    ]
    assert 30 < sum(constant) < 110


def mixed(augmentation: Augmentation, *, mixing: bool = True) -> list[bool]:
    """Which of 400 batches are mixed."""
    images, generator = numbered(800), Generator().manual_seed(0)
    batches = training_batches(
        images, Normalization(0, 1.0), augmentation, 2, 5, generator, mixing=mixing
    )
    return [bool((targets.amax(1) < 1).any()) for _, targets in batches]


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_a_share_of_the_batches_is_mixed(kind: str) -> None:
    whole = sum(mixed(Augmentation.model_validate({kind: 1.0})))
    part = sum(mixed(Augmentation.model_validate({kind: 1.0, "mix_probability": 0.25})))
    assert part == pytest.approx(whole / 4, abs=5 * 75**0.5)
    assert not any(mixed(Augmentation.model_validate({kind: 1.0, "mix_probability": 0.0})))


def test_an_epoch_without_mixing_is_unmixed_and_otherwise_augmented() -> None:
    both = Augmentation(crop=1, mixup=1.0, cutmix=1.0)
    assert any(mixed(both))
    assert not any(mixed(both, mixing=False))
    images, normalization = numbered(8), Normalization(0, 1.0)
    plain, unmixed = (
        next(
            training_batches(
                images, normalization, each, 8, 5, Generator().manual_seed(4), mixing=False
            )
        )
        for each in (Augmentation(crop=1), both)
    )
    assert torch.equal(plain[0], unmixed[0])


def test_neither_mixup_nor_cutmix_leaves_images_whole() -> None:
    for images, targets in epoch(numbered(64), Augmentation(flip=True)):
        assert torch.equal(images, images[:, :1, :1, :1].expand_as(images))
        assert set(targets.unique().tolist()) == {0.0, 1.0}


def test_evaluation_takes_everything_in_order() -> None:
    images = numbered(20)
    batches = list(evaluation_batches(images, Normalization(3, 0.5), 8))
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    assert torch.equal(torch.cat([labels for _, labels in batches]), images.labels)
    values = torch.cat([batch for batch, _ in batches])
    assert torch.equal(values, (images.images.float() - 3) * 0.5)


@pytest.mark.gpu
def test_a_batch_does_not_wait_for_the_device() -> None:
    images = numbered(240).to("cuda")
    generator = Generator("cuda").manual_seed(0)
    batches = training_batches(images, Normalization(0, 1.0), EVERYTHING, 8, 5, generator)
    next(batches)
    torch.cuda.set_sync_debug_mode("error")
    try:
        assert all(batch.is_cuda for batch, _ in batches)
    finally:
        torch.cuda.set_sync_debug_mode("default")
