"""How a network is fitted, as a candidate gives it: augmentation, optimizer, schedule, teacher."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_serializer, model_validator

from micronet_search.config.model import (
    BY_NAME,
    Fraction,
    Listed,
    Model,
    Name,
    NotNegative,
    Positive,
    PositiveInt,
    Probability,
    Share,
)
from micronet_search.config.network import Network

Alpha = Annotated[float, Field(ge=0.0, le=10.0)]
"""Of a Beta distribution; 0 turns mixing off."""

REACH = 2
"""The widest crop, in pixels, whose views have cached soft targets."""


class ColorJitter(Model):
    """The largest changes of colours, drawn for each image; `hue` is in turns, the others relative.

    `contrast` moves values from the image's mean grey, and `saturation` from each pixel's grey.
    Saturation and hue change three-channel images alone.
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


class Cosine(Model):
    """Half a cosine down to zero (Loshchilov and Hutter, 2017), begun anew `restarts` times."""

    name: Literal["cosine"]
    restarts: Annotated[int, Field(ge=0, le=100)] = 0


class OneCycle(Model):
    """Up and down again, the momentum the other way (Smith and Topin, 2018)."""

    name: Literal["one-cycle"]


class Linear(Model):
    """A straight line down to zero."""

    name: Literal["linear"]


class MultiStep(Model):
    """A constant rate, times `factor` at each milestone, a share of the stage."""

    name: Literal["multi-step"]
    milestones: Listed[Fraction] = (0.5, 0.75)
    factor: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1

    @model_validator(mode="after")
    def _milestones_rise(self) -> MultiStep:
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones are {list(self.milestones)}, expected rising shares")
        return self


Schedule = Annotated[Cosine | OneCycle | Linear | MultiStep, Field(discriminator="name")]


class Training(Model):
    """How the network is fitted.

    Attributes:
        epochs: Epochs of the first fit.
        batch_size: Two images at least, which a norm needs.
        optimizer: `sgd` (Nesterov), `adam`, `adamw` or `muon` (Jordan et al., 2024: convolutions'
            weights as matrices; the classifier, biases, norms and scales by AdamW).
        learning_rate: Peak of the schedule.
        momentum: Momentum of `sgd` and `muon`, first beta of the others; `one-cycle` moves it by
            0.05 around this, against the rate.
        schedule: Its name, or a mapping with its name and options.
        span: What the schedule spans. `stage`: each stage, with a peak of its own. `trial`: all
            stages, so that the network is compressed on the tail of one schedule, and no
            `learning_rate_factor` counts.
        warmup: Epochs of linear warm-up before the schedule; `one-cycle`, which has a rise of its
            own, takes none, and keeps the default.
        weight_decay: On weights alone, not on biases, norms and scales.
        label_smoothing: Share of the target spread evenly over the classes.
        ema: Decay per step of the averaged network, which then is the one that counts.
        gradient_clip: Largest norm of the gradient.
    """

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "adam"
    learning_rate: Positive
    momentum: Fraction = 0.9
    schedule: Annotated[Schedule, BY_NAME] = Cosine(name="cosine")
    span: Literal["stage", "trial"] = "stage"
    warmup: NotNegative = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Fraction = 0.0
    ema: Fraction | None = None
    gradient_clip: Positive | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _warmup_fits(self) -> Training:
        if self.warmup >= self.epochs:
            found = f"warmup is {self.warmup} and epochs {self.epochs}"
            raise ValueError(f"{found}, expected fewer epochs of warm-up")
        if self.schedule.name == "one-cycle":
            self._settle(warmup=0)
        return self


class Teacher(Model):
    """Whose outputs a student learns: a network to train once, or a trial of another study.

    The network is neither pruned nor quantized. The study has the same root, and the trial, given
    by its number, is complete.
    """

    network: Network | None = None
    training: Training | None = None
    study: Name | None = None
    trial: NotNegative | None = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Teacher:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if given not in (["network", "training"], ["study", "trial"]):
            found = " and ".join(given) or "neither"
            raise ValueError(f"found {found}, expected network and training, or study and trial")
        return self

    @model_serializer(mode="wrap")
    def _what_is_given(self, handler: Any) -> dict[str, Any]:
        return {name: value for name, value in handler(self).items() if value is not None}


class StartingPoint(Model):
    """The trial of another study, under the same root, with whose network a fit begins.

    It is the network that the trial had after its own first fit, in full precision. Both have the
    same `network` and training images.
    """

    study: Name
    trial: NotNegative


class Distillation(Model):
    """Learning from a teacher's outputs, in every stage (Hinton et al., 2015).

    Attributes:
        temperature: What divides the logits of both.
        weight: Share of the soft targets in the loss; the true ones have the rest.
        cached: Whether the teacher's outputs are made once, for 50 views of each training image:
            crops that move it by 2 pixels at most, and their mirrors. The student trains on these
            views alone, as fast as without a teacher. Otherwise the teacher computes along.
    """

    teacher: Teacher
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 4.0
    weight: Share = 0.5
    cached: bool = False
