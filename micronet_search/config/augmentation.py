"""What happens to training images, as a candidate gives it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from micronet_search.config.model import Model, NotNegative, Probability

Alpha = Annotated[float, Field(ge=0.0, le=10.0)]
"""Of a Beta distribution; 0 turns mixing off."""

REACH = 2
"""The widest crop, in pixels, whose views have cached soft targets."""


class ColorJitter(Model):
    """The largest changes of colours, which are drawn for each image.

    Attributes:
        brightness: Largest relative change of the pixels.
        contrast: Largest relative change of the distance to the image's mean grey.
        saturation: Largest relative change of the distance to each pixel's grey; of three-channel
            images alone.
        hue: Largest turn of the colours, where 1 is a full turn; of three-channel images alone.
    """

    brightness: Probability = 0.0
    contrast: Probability = 0.0
    saturation: Probability = 0.0
    hue: Annotated[float, Field(ge=0.0, le=0.5)] = 0.0


class Augmentation(Model):
    """What happens to the training images, per image, on the device, in this order.

    Attributes:
        crop: Pixels of zero padding around the image that a random crop moves in.
        flip: Whether half of the images are mirrored.
        rotation: Largest angle, in degrees, by which an image is turned about its centre.
        jitter: Changes of colours.
        policy: `trivial` applies one random operation of random strength to each image
            (TrivialAugment, Müller and Hutter, 2021), `rand` two (RandAugment, Cubuk et al., 2020,
            with magnitudes drawn evenly); null for none.
        erasing: Probability with which a random rectangle of an image is blanked (Zhong et al.,
            2020).
        mixup: Alpha of mixup (Zhang et al., 2018).
        cutmix: Alpha of cutmix (Yun et al., 2019). With both, each batch takes one, evenly.
        mix_probability: Share of the batches that are mixed, by either.
        unmixed_epochs: Last epochs of what the schedule spans in which nothing is mixed.
    """

    crop: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    jitter: ColorJitter = ColorJitter()
    policy: Literal["trivial", "rand"] | None = None
    erasing: Probability = 0.0
    mixup: Alpha = 0.0
    cutmix: Alpha = 0.0
    mix_probability: Probability = 1.0
    unmixed_epochs: NotNegative = 0

    def beyond_views(self) -> dict[str, Any]:
        """Returns the values that make other images than the views of cached soft targets."""
        harmless = {"flip", "mix_probability", "unmixed_epochs"}
        if self.crop <= REACH:
            harmless.add("crop")
        changed = self.model_dump(exclude=harmless, exclude_defaults=True)
        return {name: value for name, value in changed.items() if value}
