"""The images of a trial, in batches that its seed and the epoch decide."""

import hashlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from micronet_search.config.training import Training
from micronet_search.data.batches import (
    batches_in_epoch,
    evaluation_batches,
    normalized,
    training_batches,
)
from micronet_search.data.splits import Splits

EVALUATION_BATCH = 1000
CALIBRATION_IMAGES, CALIBRATION_BATCH = 1024, 128


class Feed:
    """Gives batches of a dataset that depend on nothing but the seed and the epoch.

    Attributes:
        normalization: What is done to every image.
        steps_per_epoch: Training batches in an epoch.
        images: The number of training images.
        classes: The number of classes.
    """

    def __init__(self, splits: Splits, training: Training, seed: int, device: torch.device) -> None:
        """Takes the dataset, which is on `device`."""
        self.normalization = splits.normalization
        self.steps_per_epoch = batches_in_epoch(len(splits.train), training.batch_size)
        self.images, self.classes = len(splits.train), splits.classes
        self.device = device
        self._splits = splits
        self._training = training
        self._seed = seed

    def place(self, network: nn.Module) -> nn.Module:
        """Moves a network to where the images are, with its channels last as theirs."""
        return network.to(self.device).to(memory_format=torch.channels_last)

    def training(
        self, epoch: int, mixing: bool, of_views: Tensor | None = None
    ) -> Iterator[tuple[Tensor, ...]]:
        """Yields the augmented images (B, C, H, W) and targets (B, classes) of an epoch.

        Args:
            epoch: Epochs trained before it, over all stages.
            mixing: Whether mixup and cutmix are applied.
            of_views: Values for each view (VIEWS, images, values), of which a batch has those of
                its views (B, values) too.
        """
        return training_batches(
            self._splits.train,
            self.normalization,
            self._training.augmentation,
            self._training.batch_size,
            self._splits.classes,
            self._generator(epoch),
            mixing=mixing,
            of_views=of_views,
        )

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yields the validation images (B, C, H, W) and their labels (B,)."""
        return evaluation_batches(self._splits.validation, self.normalization, EVALUATION_BATCH)

    def calibration(self) -> Iterator[Tensor]:
        """Yields about a thousand training images in batches (B, C, H, W), without augmentation.

        The batches have one size, so that they count alike, and none has too few for a norm.
        """
        images, generator = self._splits.train.images, self._generator(-1)
        chosen = torch.randperm(len(images), generator=generator, device=self.device)
        batches = batches_in_epoch(min(len(images), CALIBRATION_IMAGES), CALIBRATION_BATCH)
        for part in chosen.split(CALIBRATION_BATCH)[:batches]:
            yield normalized(images[part], self.normalization)

    def _generator(self, epoch: int) -> torch.Generator:
        digest = hashlib.blake2b(f"{self._seed}/{epoch}".encode(), digest_size=7).digest()
        return torch.Generator(self.device).manual_seed(int.from_bytes(digest))
