"""The families of networks: their shapes, as a candidate gives them.

A network is a stem, blocks (which some papers call stages) and a classifier. What differs from
block to block is a list with one entry for each, or one number that serves all. Widths are rounded
up to what the groups that read them divide, and at their upper bound down, so that a candidate
holds the widths that are used and its file can be read again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, Strict, field_serializer, model_validator

from micronet_search.config.blocks import check_lengths, spread, unspread
from micronet_search.config.model import Counts, Model, Share, whole_number

MAX_WIDTH, MAX_GROWTH, MAX_BLOCKS, MAX_LAYERS = 4096, 1024, 16, 200
DIVISOR = 8
"""What EfficientNet's multiplied widths are rounded to."""

Side = Annotated[int, Field(ge=1, le=16_384)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
Widths = Annotated[tuple[Width, ...], Strict(False), Field(min_length=1, max_length=MAX_BLOCKS)]
Layers = Annotated[tuple[Annotated[int, Field(ge=1, le=MAX_LAYERS)], ...], Strict(False)]
Blocks = Annotated[Layers, Field(min_length=1, max_length=MAX_BLOCKS)]
Stride = Annotated[Literal[1, 2], BeforeValidator(whole_number)]
Kernel = Annotated[Literal[3, 5, 7], BeforeValidator(whole_number)]
Convolution = Literal["plain", "separable"]
"""How a block's k x k convolution is made: as it is, or as a depthwise one and a 1x1 after it
(Howard et al., 2017)."""

Activation = Literal["relu", "silu", "hard-swish"]


class Input(Model):
    """The shape of one image."""

    channels: Side = 3
    height: Side = 32
    width: Side = 32


class Stem(Model):
    """The first convolution: output channels, kernel size and stride."""

    width: Width
    kernel: Annotated[Literal[1, 3, 5, 7], BeforeValidator(whole_number)] = 3
    stride: Annotated[Literal[1, 2, 4], BeforeValidator(whole_number)] = 1

    @property
    def halvings(self) -> int:
        """How often it halves the image."""
        return self.stride.bit_length() - 1


class DenseNet(Model):
    """A DenseNet for small images (Huang et al., 2017), with grouped convolutions.

    Attributes:
        stem: The first convolution.
        growth_rate: Channels that each layer adds.
        layers: Layers in each block; a transition that halves the image stands between blocks.
        groups: Groups of the 3x3 convolutions of each block; of their 1x1 half where they are
            separable.
        pointwise_groups: Groups of the 1x1 convolutions of a block and the transition after it.
        bottleneck: Width of the 1x1 convolution before each 3x3 one, in growth rates; 0 for none.
        compression: Share of the channels that a transition keeps.
        convolution: Of the 3x3 convolutions, `plain` or `separable`.
    """

    title: ClassVar[str] = "a DenseNet"

    family: Literal["densenet"]
    stem: Stem
    growth_rate: Annotated[int, Field(ge=1, le=MAX_GROWTH)]
    layers: Annotated[Layers, Field(min_length=1, max_length=8)]
    groups: Counts = ()
    pointwise_groups: Counts = ()
    bottleneck: Annotated[int, Field(ge=0, le=64)] = 4
    compression: Share = 0.5
    convolution: Convolution = "plain"

    @model_validator(mode="before")
    @classmethod
    def _one_number_serves_all_blocks(cls, value: Any) -> Any:
        return spread(value, "layers", {"groups": 1, "pointwise_groups": 1})

    @model_validator(mode="after")
    def _widths_that_groups_divide(self) -> DenseNet:
        check_lengths(self, "layers", ("groups", "pointwise_groups"))
        multiple = math.lcm(*self.groups, *self.pointwise_groups)
        if multiple > MAX_GROWTH:
            raise ValueError(
                f"growth_rate has to be a multiple of {multiple} for groups and pointwise_groups, "
                f"expected groups with a least common multiple of at most {MAX_GROWTH}"
            )
        self._settle(
            growth_rate=_round_within(self.growth_rate, multiple, MAX_GROWTH),
            stem=_rounded(self.stem, self.groups_reading(0)),
        )
        return self

    @field_serializer("groups", "pointwise_groups")
    def _one_number_where_it_serves(self, groups: tuple[int, ...]) -> Any:
        return unspread(groups)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.layers)

    @property
    def halvings(self) -> int:
        """How often the image is halved."""
        return self.stem.halvings + len(self.layers) - 1

    def groups_reading(self, block: int) -> int:
        """What the width of the channels that enter a block must be a multiple of."""
        reading = 1 if self.bottleneck else self.groups[block]
        return math.lcm(reading, self.pointwise_groups[block])


class ResNet(Model):
    """A ResNet for small images (He et al., 2015), with grouped convolutions (Xie et al., 2017).

    Attributes:
        stem: The first convolution, with norm and ReLU.
        widths: Of the 3x3 convolutions of each block.
        layers: Residual layers in each block; the first one of all blocks but the first has a
            stride of 2.
        layer: `basic`, two 3x3 convolutions; or `bottleneck`, 1x1, 3x3 and 1x1, the last one four
            times as wide.
        groups: Groups of the 3x3 convolutions of each block; of their 1x1 half where they are
            separable.
        convolution: Of the 3x3 convolutions, `plain` or `separable`.
    """

    title: ClassVar[str] = "a ResNet"

    family: Literal["resnet"]
    stem: Stem
    widths: Widths
    layers: Blocks
    layer: Literal["basic", "bottleneck"] = "basic"
    groups: Counts = ()
    convolution: Convolution = "plain"

    @model_validator(mode="before")
    @classmethod
    def _one_number_serves_all_blocks(cls, value: Any) -> Any:
        return spread(value, "widths", {"groups": 1, "layers": None})

    @model_validator(mode="after")
    def _widths_that_groups_divide(self) -> ResNet:
        check_lengths(self, "widths", ("layers", "groups"))
        multiples, first = list(self.groups), 1
        if self.layer == "basic":  # its first convolution reads what the block before puts out
            multiples = [math.lcm(own, after) for own, after in pairwise((*self.groups, 1))]
            first = self.groups[0]
        self._settle(widths=_round_all(self.widths, multiples), stem=_rounded(self.stem, first))
        return self

    @field_serializer("groups", "layers")
    def _one_number_where_it_serves(self, values: tuple[int, ...]) -> Any:
        return unspread(values)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.widths)

    @property
    def halvings(self) -> int:
        """How often the image is halved."""
        return self.stem.halvings + len(self.widths) - 1


class EfficientNet(Model):
    """An EfficientNet (Tan and Le, 2019): inverted residuals, with squeeze-and-excite.

    Attributes:
        stem: The first convolution, with norm and activation.
        widths: Output channels of each block.
        layers: Inverted residuals in each block.
        strides: Of the first one of each block, 1 or 2.
        kernels: Sizes of the k x k convolutions of each block: 3, 5 or 7.
        expansions: How many times wider each block's inverted residuals are inside; at 1 without
            the 1x1 convolution that expands.
        squeeze: Width of each block's squeeze-and-excite, as a share of the channels that enter the
            inverted residual; 0 for none.
        groups: Groups of the 1x1 convolutions of each block's inverted residuals.
        convolution: `separable`, as published: 1x1, depthwise k x k, 1x1; or `plain`, where one
            k x k convolution takes the place of the first two (EfficientNetV2's fused ones, Tan
            and Le, 2021).
        activation: `relu`, `silu` or `hard-swish`.
        head: Width of the 1x1 convolution before the classifier; 0 for none.
        width_multiplier: Factor of the stem, widths and head, which then are rounded to multiples
            of 8 as published; the candidate holds the products, and 1 here.
        depth_multiplier: Factor of the layers, rounded up; the candidate holds the products.
    """

    title: ClassVar[str] = "an EfficientNet"

    family: Literal["efficientnet"]
    stem: Stem
    widths: Widths
    layers: Blocks
    strides: Annotated[tuple[Stride, ...], Strict(False)] = ()
    kernels: Annotated[tuple[Kernel, ...], Strict(False)] = ()
    expansions: Annotated[tuple[Annotated[int, Field(ge=1, le=16)], ...], Strict(False)] = ()
    squeeze: Annotated[tuple[Annotated[float, Field(ge=0.0, le=1.0)], ...], Strict(False)] = ()
    groups: Counts = ()
    convolution: Convolution = "separable"
    activation: Activation = "relu"
    head: Annotated[int, Field(ge=0, le=MAX_WIDTH)] = 0
    width_multiplier: Annotated[float, Field(gt=0.0, le=16.0)] = 1.0
    depth_multiplier: Annotated[float, Field(gt=0.0, le=16.0)] = 1.0

    @model_validator(mode="before")
    @classmethod
    def _one_number_serves_all_blocks(cls, value: Any) -> Any:
        defaults = {"layers": None, "strides": 1, "kernels": 3, "expansions": 4, "squeeze": 0.0}
        return spread(value, "widths", defaults | {"groups": 1})

    @model_validator(mode="after")
    def _multiplied_widths_that_groups_divide(self) -> EfficientNet:
        listed = ("layers", "strides", "kernels", "expansions", "squeeze", "groups")
        check_lengths(self, "widths", listed)
        factor, multiples = self.width_multiplier, [*self.groups, 1]
        stem = self.stem.model_copy(update={"width": _multiplied(self.stem.width, factor)})
        widths = [_multiplied(width, factor) for width in self.widths]
        self._settle(
            stem=_rounded(stem, multiples[0]),
            widths=_round_all(widths, [math.lcm(*pair) for pair in pairwise(multiples)]),
            head=_multiplied(self.head, factor),
            layers=tuple(
                min(math.ceil(layers * self.depth_multiplier), MAX_LAYERS) for layers in self.layers
            ),
            width_multiplier=1.0,
            depth_multiplier=1.0,
        )
        return self

    @field_serializer("layers", "strides", "kernels", "expansions", "squeeze", "groups")
    def _one_number_where_it_serves(self, values: tuple[Any, ...]) -> Any:
        return unspread(values)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return len(self.widths)

    @property
    def halvings(self) -> int:
        """How often the image is halved."""
        return self.stem.halvings + sum(stride == 2 for stride in self.strides)


Network = Annotated[DenseNet | ResNet | EfficientNet, Field(discriminator="family")]


def round_up(width: int, multiple: int) -> int:
    """The smallest positive multiple of `multiple` that is not below `width`."""
    return max(1, -(-width // multiple)) * multiple


def _rounded(stem: Stem, multiple: int) -> Stem:
    return stem.model_copy(update={"width": _round_within(stem.width, multiple, MAX_WIDTH)})


def _round_all(widths: Sequence[int], multiples: Sequence[int]) -> tuple[int, ...]:
    found = zip(widths, multiples, strict=True)
    return tuple(_round_within(width, multiple, MAX_WIDTH) for width, multiple in found)


def _round_within(width: int, multiple: int, bound: int) -> int:
    if multiple > bound:
        raise ValueError(
            f"some width has to be a multiple of {multiple} for the groups that read it, expected "
            f"groups with a least common multiple of at most {bound}"
        )
    return min(round_up(width, multiple), bound // multiple * multiple)


def _multiplied(width: int, factor: float) -> int:
    """A width times a factor, rounded to a multiple of 8 that is not 10 % less, as published."""
    if factor == 1.0 or width == 0:
        return width
    wanted = width * factor
    found = max(DIVISOR, int(wanted + DIVISOR / 2) // DIVISOR * DIVISOR)
    found += DIVISOR if found < 0.9 * wanted else 0
    return min(found, MAX_WIDTH)
