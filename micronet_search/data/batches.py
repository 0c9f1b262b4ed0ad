"""Batches, cut from images that already are on the device, and changed at random there.

The functions that change images (B, C, H, W) return their shape and type. Each image is changed by
itself. Targets are class probabilities (B, classes), and `fill` is the value of new pixels.
Everything is drawn from the generator alone, and nothing waits for the device.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Generator, Tensor

from micronet_search.config.training import Augmentation
from micronet_search.data.splits import Images, Normalization
from micronet_search.data.transforms import apply_policy, jitter, policy_counts, rotate
from micronet_search.data.views import Views

ERASED = (0.02, 0.33)
"""Smallest and largest share of an image that is erased (Zhong et al., 2020)."""
ASPECT = (0.3, 3.3)
"""Smallest and largest ratio of height to width of the erased rectangle."""

Mix = Callable[..., tuple[Tensor, Tensor]]
"""`mixup` or `cutmix` with its alpha; takes images, targets and a generator."""


def batches_in_epoch(images: int, batch_size: int) -> int:
    """Returns how many batches `training_batches` yields for a number of images."""
    return max(1, images // batch_size)


def training_batches(
    images: Images,
    normalization: Normalization,
    augmentation: Augmentation,
    batch_size: int,
    classes: int,
    generator: Generator,
    *,
    mixing: bool = True,
    of_views: Tensor | None = None,
) -> Iterator[tuple[Tensor, ...]]:
    """Yields one epoch of shuffled and augmented images, on their device.

    The batches are float32 images (B, C, H, W) and the probability of each class (B, classes). The
    last, short one is dropped unless it is the only one. Without `mixing`, no images are mixed.

    `of_views` has some values for each view of each image, (VIEWS, N, values). Then a batch also
    has those of its views (B, values), and nothing but crops and mirrors may change the images.
    """
    device = images.images.device
    count, size = batches_in_epoch(len(images), batch_size), min(batch_size, len(images))
    order = torch.randperm(len(images), generator=generator, device=device)
    # Drawn for the whole epoch at once, because reading it on the host waits for the device.
    mixes = _mixes(augmentation, count, generator) if mixing else [None] * count
    rounds = {None: 0, "trivial": 1, "rand": 2}[augmentation.policy]
    operations = policy_counts(rounds * count, size, generator) if rounds else []
    one_hot, fill = torch.eye(classes, device=device), normalization.mean
    for batch, (rows, mix) in enumerate(zip(order.split(batch_size), mixes, strict=False)):
        # uint8 images, which are a quarter of the bytes of normalised ones
        views = Views.random(len(rows), augmentation.crop, augmentation.flip, generator)
        changed = views.cut(images.images[rows], fill)
        changed = rotate(changed, augmentation.rotation, fill, generator)
        changed = jitter(changed, augmentation.jitter, generator)
        for counts in operations[rounds * batch : rounds * (batch + 1)]:
            changed = apply_policy(changed, counts, fill, generator)
        changed = erase(changed, augmentation.erasing, fill, generator)
        inputs, targets = normalized(changed, normalization), one_hot[images.labels[rows]]
        if of_views is not None:
            yield inputs, targets, of_views[views.numbers(), rows]
            continue
        yield mix(inputs, targets, generator=generator) if mix else (inputs, targets)


def evaluation_batches(
    images: Images, normalization: Normalization, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields all images (B, C, H, W) and their labels (B,) once, in order and unchanged."""
    for start in range(0, len(images), batch_size):
        batch = slice(start, start + batch_size)
        yield normalized(images.images[batch], normalization), images.labels[batch]


def normalized(images: Tensor, normalization: Normalization) -> Tensor:
    """Turns uint8 images into a network's input: float32 (B, C, H, W), channels last in memory."""
    return normalization(images.to(torch.float32, memory_format=torch.channels_last))


def _mixes(augmentation: Augmentation, batches: int, generator: Generator) -> list[Mix | None]:
    """Draws how the images of each batch are mixed, None where they are not."""
    kinds = {mixup: augmentation.mixup, cutmix: augmentation.cutmix}
    mixes: list[Mix] = [partial(kind, alpha=alpha) for kind, alpha in kinds.items() if alpha]
    if not mixes:
        return [None] * batches
    probability = augmentation.mix_probability
    drawn = torch.rand(batches, generator=generator, device=generator.device).tolist()
    return [
        mixes[int(share / probability * len(mixes))] if share < probability else None
        for share in drawn
    ]


def erase(images: Tensor, probability: float, fill: int, generator: Generator) -> Tensor:
    """Fills a random rectangle in some uint8 images, each with a probability (Zhong et al., 2020).

    The area and the logarithm of the aspect are uniform. A rectangle longer than a side of the
    image is cut to the side, where the original draws again.
    """
    if not probability:
        return images
    count, _, height, width = images.shape
    drawn = torch.rand((5, count), generator=generator, device=images.device)
    (least, most), (flat, tall) = ERASED, map(math.log, ASPECT)
    area = height * width * (least + (most - least) * drawn[0])
    aspect = (flat + (tall - flat) * drawn[1]).exp()

    def inside(side: Tensor, place: Tensor, length: int) -> Tensor:
        whole = side.round().clamp(1, length)
        start = (place * (length - whole + 1)).floor()
        return _interval(start, start + whole, length)

    rows = inside((area * aspect).sqrt(), drawn[2], height)
    columns = inside((area / aspect).sqrt(), drawn[3], width)
    chosen = (drawn[4] < probability)[:, None]
    return torch.where(_box(rows & chosen, columns), fill, images)


def mixup(
    images: Tensor, targets: Tensor, alpha: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Blends float images and targets with others, by draws of `beta` (Zhang et al., 2018)."""
    share = beta(alpha, len(images), generator)
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    mixed = torch.lerp(images[partner], images, share[:, None, None, None])
    return mixed, torch.lerp(targets[partner], targets, share[:, None])


def cutmix(
    images: Tensor, targets: Tensor, alpha: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Pastes a box of another image into each float image (Yun et al., 2019).

    The box has the aspect of the image, a uniform centre, and one minus a draw from `beta` of its
    area. What lies outside is cut off, and the targets are mixed by the area that remains.
    """
    count, _, height, width = images.shape
    side = (1 - beta(alpha, count, generator)).sqrt()
    centre = torch.rand((2, count), generator=generator, device=images.device)

    def around(centre: Tensor, length: int) -> Tensor:
        half, middle = (side * length).int() // 2, (centre * length).int()
        return _interval(middle - half, middle + half, length)

    rows, columns = around(centre[0], height), around(centre[1], width)
    partner = torch.randperm(count, generator=generator, device=images.device)
    share = 1 - rows.sum(1) * columns.sum(1) / (height * width)
    pasted = torch.where(_box(rows, columns), images[partner], images)
    return pasted, torch.lerp(targets[partner], targets, share[:, None])


def beta(alpha: float, count: int, generator: Generator) -> Tensor:
    """Draws float32 (count,) from Beta(alpha, alpha), on the generator's device.

    A draw is X / (X + Y) with X and Y from Gamma(alpha), the sigmoid of log X - log Y. Both
    underflow for a small alpha, so that the logarithms are drawn: those of Gamma(alpha + 1) *
    U^(1 / alpha) (Marsaglia and Tsang, 2000).
    """
    shape = torch.full((2, count), alpha + 1, device=generator.device)
    gamma = torch._standard_gamma(shape, generator=generator).log()
    uniform = (1 - torch.rand((2, count), generator=generator, device=generator.device)).log()
    return torch.sigmoid(gamma[0] - gamma[1] + (uniform[0] - uniform[1]) / alpha)


def _interval(start: Tensor, end: Tensor, length: int) -> Tensor:
    pixels = torch.arange(length, device=start.device)
    return (pixels >= start[:, None]) & (pixels < end[:, None])


def _box(rows: Tensor, columns: Tensor) -> Tensor:
    """Marks the pixels (B, 1, H, W) whose rows (B, H) and columns (B, W) are marked."""
    return rows[:, None, :, None] & columns[:, None, None, :]
