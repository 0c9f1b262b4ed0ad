"""How a network is fitted, as a candidate gives it: augmentation, optimizer, schedule, teacher."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict, model_serializer, model_validator

from micronet_search.config.model import Fraction, Model, Name, PositiveInt, Share
from micronet_search.config.network import Network

Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class ColorJitter(Model):
    """How far colours are moved at random, each by its own factor for each image.

    Attributes:
        brightness: Largest relative change of all values.
        contrast: Largest relative change of the distance from the image's mean grey.
        saturation: Largest relative change of the distance from each pixel's grey.
        hue: Largest turn of the hue, in turns; with `saturation` it changes three-channel images
            alone.
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
        jitter: How far colours are moved.
        policy: `trivial` applies one random operation of random strength to each image
            (TrivialAugment, Müller and Hutter, 2021), `rand` two (RandAugment, Cubuk et al., 2020,
            with magnitudes drawn evenly); null for none.
        erasing: Probability with which a random rectangle of an image is blanked (Zhong et al.,
            2020).
        mixup: Alpha of mixup's Beta distribution (Zhang et al., 2018); 0 turns it off.
        cutmix: Alpha of cutmix's (Yun et al., 2019); 0 turns it off. With both, each batch takes
            one of the two, evenly.
        mix_probability: Share of the batches that are mixed, by either.
        unmixed_epochs: Last epochs of each stage in which nothing is mixed.
    """

    crop: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    rotation: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0
    jitter: ColorJitter = ColorJitter()
    policy: Literal["trivial", "rand"] | None = None
    erasing: Probability = 0.0
    mixup: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    cutmix: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    mix_probability: Probability = 1.0
    unmixed_epochs: Annotated[int, Field(ge=0)] = 0


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
    milestones: Annotated[tuple[Fraction, ...], Strict(False)] = (0.5, 0.75)
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
        batch_size: Images in a batch, two at least, which a norm needs.
        optimizer: `sgd` (Nesterov), `adam`, `adamw` or `muon` (Jordan et al., 2024: convolutions'
            weights as matrices; the classifier, biases, norms and scales by AdamW).
        learning_rate: Peak of the schedule.
        momentum: Momentum of `sgd` and `muon`, first beta of the others; `one-cycle` moves it by
            0.05 around this, against the rate.
        schedule: `cosine`, `one-cycle`, `linear` or `multi-step`, by name or as a mapping with its
            options.
        warmup: Epochs of linear warm-up before the schedule; `one-cycle`, which has a rise of its
            own, takes none, and keeps the default.
        weight_decay: On weights alone, not on biases, norms and scales.
        label_smoothing: Share of the target spread evenly over the classes.
        ema: Decay per step of the averaged network, which then is the one that counts; null for
            none.
        gradient_clip: Largest norm of the gradient; null for none.
        augmentation: What happens to the images.
    """

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam", "adamw", "muon"] = "adam"
    learning_rate: Annotated[float, Field(gt=0.0)]
    momentum: Fraction = 0.9
    schedule: Schedule = Cosine(name="cosine")
    warmup: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Fraction = 0.0
    ema: Fraction | None = None
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="before")
    @classmethod
    def _schedule_by_name(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("schedule"), str):
            return value | {"schedule": {"name": value["schedule"]}}
        return value

    @model_validator(mode="after")
    def _warmup_fits(self) -> Training:
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup is {self.warmup} and epochs {self.epochs}, "
                "expected fewer epochs of warm-up"
            )
        if self.schedule.name == "one-cycle":
            self._settle(warmup=0)
        return self


class Teacher(Model):
    """Whose outputs a student learns: a network to train once, or a trial of another study.

    Attributes:
        network: Of the teacher; it is neither pruned nor quantized.
        training: How it is fitted.
        study: Name of a study under the same root.
        trial: Number of a complete trial in it.
    """

    network: Network | None = None
    training: Training | None = None
    study: Name | None = None
    trial: Annotated[int, Field(ge=0)] | None = None

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


class Distillation(Model):
    """Learning from a teacher's outputs, in every stage (Hinton et al., 2015).

    Attributes:
        teacher: Whose outputs.
        temperature: Divides the logits of both.
        weight: Of the soft targets in the loss; the true ones have the rest.
    """

    teacher: Teacher
    temperature: Annotated[float, Field(gt=0.0, le=100.0)] = 4.0
    weight: Share = 0.5
