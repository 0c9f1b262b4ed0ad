"""The candidate: one fully resolved configuration, every choice made."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    field_serializer,
    model_validator,
)

from micronet_search.config.loading import describe


def whole_number(value: Any) -> Any:
    """Refuses true and 8.0 before they are taken for a literal 1 and 8.

    Raises:
        ValueError: The value is no whole number.
    """
    if isinstance(value, bool | float):
        raise ValueError(f"found {describe(value)}, expected a whole number")
    return value


Bits = Annotated[Literal[2, 3, 4, 5, 6, 7, 8, 16, 32], BeforeValidator(whole_number)]
"""The widths of a weight or an activation: integers, half precision (16), single precision (32)."""

PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1, le=1024)], ...], Strict(False)]
"""A list in a file."""
MAX_STEM, MAX_GROWTH = 4096, 1024


class Model(BaseModel):
    """What every part of a sweep or a candidate is: frozen, with no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


Side = Annotated[int, Field(ge=1, le=16_384)]


class Input(Model):
    """The shape of one image."""

    channels: Side = 3
    height: Side = 32
    width: Side = 32


class Stem(Model):
    """The first convolution: output channels, kernel size and stride."""

    width: Annotated[int, Field(ge=1, le=MAX_STEM)]
    kernel: Annotated[Literal[1, 3, 5, 7], BeforeValidator(whole_number)] = 3
    stride: Annotated[Literal[1, 2, 4], BeforeValidator(whole_number)] = 1


class DenseNet(Model):
    """A DenseNet for small images (Huang et al., 2017), with grouped convolutions.

    Attributes:
        stem: The first convolution.
        growth_rate: Channels that each layer adds.
        layers: Layers in each block; a transition that halves the image stands between blocks.
        groups: Groups of the 3x3 convolutions of each block; one number (default 1) serves all.
        pointwise_groups: The same for the 1x1 convolutions of a block and the transition after it.
        bottleneck: Width of the 1x1 convolution before each 3x3 one, in growth rates; 0 for none.
        compression: Share of the channels that a transition keeps.

    The widths are rounded up to what the groups that read them divide, and at their upper bound
    down, so that a candidate's file can be read again.
    """

    family: Literal["densenet"]
    stem: Stem
    growth_rate: Annotated[int, Field(ge=1, le=MAX_GROWTH)]
    layers: Annotated[Counts, Field(min_length=1, max_length=8)]
    groups: Counts = ()
    pointwise_groups: Counts = ()
    bottleneck: Annotated[int, Field(ge=0, le=64)] = 4
    compression: Annotated[float, Field(gt=0.0, le=1.0)] = 0.5

    @model_validator(mode="before")
    @classmethod
    def _one_number_serves_all_blocks(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("layers"), list | tuple):
            return value
        value = {"groups": 1, "pointwise_groups": 1} | value
        for name in ("groups", "pointwise_groups"):
            if isinstance(value[name], int):
                value[name] = [value[name]] * len(value["layers"])
        return value

    @model_validator(mode="after")
    def _widths_that_groups_divide(self) -> DenseNet:
        blocks = len(self.layers)
        for name in ("groups", "pointwise_groups"):
            found = len(getattr(self, name))
            if found != blocks:
                raise ValueError(
                    f"{name} has {found} entries and layers {blocks}, expected one for each block"
                )
        multiple = math.lcm(*self.groups, *self.pointwise_groups)
        if multiple > MAX_GROWTH:
            raise ValueError(
                f"growth_rate has to be a multiple of {multiple} for groups and pointwise_groups, "
                f"expected groups with a least common multiple of at most {MAX_GROWTH}"
            )
        growth_rate = _round_within(self.growth_rate, multiple, MAX_GROWTH)
        object.__setattr__(self, "growth_rate", growth_rate)
        width = _round_within(self.stem.width, self.groups_reading(0), MAX_STEM)
        object.__setattr__(self, "stem", self.stem.model_copy(update={"width": width}))
        return self

    @field_serializer("groups", "pointwise_groups")
    def _one_number_where_it_serves(self, groups: tuple[int, ...]) -> int | list[int]:
        return groups[0] if len(set(groups)) == 1 else list(groups)

    def groups_reading(self, block: int) -> int:
        """What the width of the channels that enter a block must be a multiple of."""
        reading = 1 if self.bottleneck else self.groups[block]
        return math.lcm(reading, self.pointwise_groups[block])


class Augmentation(Model):
    """What happens to the training images, per image, on the device.

    Attributes:
        crop: Pixels of zero padding around the image that a random crop moves in.
        flip: Whether half of the images are mirrored.
        mixup: Alpha of mixup's Beta distribution (Zhang et al., 2018); 0 turns it off.
        cutmix: Alpha of cutmix's (Yun et al., 2019); 0 turns it off. With both, each batch takes
            one of the two, evenly.
    """

    crop: Annotated[int, Field(ge=0, le=64)] = 0
    flip: bool = False
    mixup: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0
    cutmix: Annotated[float, Field(ge=0.0, le=10.0)] = 0.0


class Training(Model):
    """How the network is fitted.

    Attributes:
        epochs: Epochs of the first fit.
        batch_size: Images in a batch, two at least, which a norm needs.
        optimizer: `sgd` (Nesterov), `adam` or `adamw`.
        learning_rate: Peak of the schedule.
        momentum: Momentum of `sgd`, first beta of the others; `one-cycle` moves it by 0.05 around
            this, against the rate.
        schedule: `cosine` to zero, or `one-cycle` (Smith and Topin, 2018).
        warmup: Epochs of linear warm-up before the cosine; no part of `one-cycle`.
        weight_decay: On weights alone, not on biases, norms and scales.
        label_smoothing: Share of the target spread evenly over the classes.
        ema: Decay per step of the averaged network, which then is the one that counts; null for
            none.
        gradient_clip: Largest norm of the gradient; null for none.
        augmentation: What happens to the images.
    """

    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2)] = 128
    optimizer: Literal["sgd", "adam", "adamw"] = "adam"
    learning_rate: Annotated[float, Field(gt=0.0)]
    momentum: Fraction = 0.9
    schedule: Literal["cosine", "one-cycle"] = "cosine"
    warmup: Annotated[int, Field(ge=0)] = 0
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    label_smoothing: Fraction = 0.0
    ema: Fraction | None = None
    gradient_clip: Annotated[float, Field(gt=0.0)] | None = None
    augmentation: Augmentation = Augmentation()

    @model_validator(mode="after")
    def _warmup_fits(self) -> Training:
        if self.warmup >= self.epochs:
            raise ValueError(
                f"warmup is {self.warmup} and epochs {self.epochs}, "
                "expected fewer epochs of warm-up"
            )
        if self.warmup and self.schedule == "one-cycle":
            raise ValueError("warmup and schedule: one-cycle exclude each other")
        return self


class Pruning(Model):
    """Zeros among the weights, by magnitude over the whole network.

    Attributes:
        kind: `unstructured`: single weights.
        sparsity: Fraction of the weights of convolutions and linear layers that becomes zero.
        epochs: Epochs in which the sparsity rises along a cubic (Zhu and Gupta, 2017) over the
            first three quarters, while the network is fine-tuned; 0 prunes at once.
        learning_rate_factor: Peak learning rate here, as a factor of `training.learning_rate`.
    """

    kind: Literal["unstructured"] = "unstructured"
    sparsity: Fraction
    epochs: Annotated[int, Field(ge=0)] = 0
    learning_rate_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.3


class Widths(Model):
    """Bit widths of one layer's weights and of its input; null takes those of the body."""

    weight_bits: Bits | None = None
    activation_bits: Bits | None = None


class Quantization(Model):
    """The bit widths, and how the network learns them.

    Attributes:
        mode: `static`: ranges of activations fixed after calibration and fine-tuning.
        weight_bits: Width of the weights; 2 to 8 are integers, 16 half precision, 32 none.
        activation_bits: Width of the inputs of convolutions and linear layers.
        first: Widths of the first layer set apart. Its input is the image, which has 8 bits
            unless `activation_bits` here asks for fewer.
        last: Widths of the last layer set apart.
        epochs: Epochs of quantization-aware fine-tuning with learned step sizes; only taken
            where some layer is integer.
        learning_rate_factor: Peak learning rate here, as a factor of `training.learning_rate`.
    """

    mode: Literal["static"] = "static"
    weight_bits: Bits
    activation_bits: Bits
    first: Widths = Widths()
    last: Widths = Widths()
    epochs: Annotated[int, Field(ge=0)] = 0
    learning_rate_factor: Annotated[float, Field(gt=0.0, le=1.0)] = 0.1


class Candidate(Model):
    """One configuration with every choice made: what a trial evaluates and `score` counts."""

    input: Input = Input()
    classes: Annotated[int, Field(ge=2, le=100_000)] = 10
    network: DenseNet
    training: Training
    pruning: Pruning | None = None
    quantization: Quantization | None = None

    @model_validator(mode="after")
    def _image_survives_the_strides(self) -> Candidate:
        halvings = int(math.log2(self.network.stem.stride)) + len(self.network.layers) - 1
        side = min(self.input.height, self.input.width)
        if side < 2**halvings:
            raise ValueError(
                f"network.stem.stride and network.layers halve the image {halvings} times, "
                f"expected at most {int(math.log2(side))} for {self.input.height} x "
                f"{self.input.width} pixels"
            )
        return self

    def digest(self) -> str:
        """A key that two candidates share if and only if they are the same."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def round_up(width: int, multiple: int) -> int:
    """The smallest positive multiple of `multiple` that is not below `width`."""
    return max(1, -(-width // multiple)) * multiple


def _round_within(width: int, multiple: int, bound: int) -> int:
    return min(round_up(width, multiple), bound // multiple * multiple)
