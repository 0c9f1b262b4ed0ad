"""The families of networks: their shapes, as a candidate gives them.

A network is a stem, blocks (which some papers call stages) and a classifier. Widths are numbers of
channels. They are rounded to multiples of the groups of the convolutions that read them, so that a
candidate holds the widths that are used and its file can be read again. The module
`micronet_search.network.FAMILY` builds the networks of a family.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from micronet_search.config.blocks import (
    MAX_WIDTH,
    Family,
    PerBlock,
    multiplied,
    round_all,
    round_within,
)
from micronet_search.config.model import Listed, Model, Share, whole_number

MAX_GROWTH, MAX_BLOCKS, MAX_LAYERS = 1024, 16, 200
_BLOCKS = Field(min_length=1, max_length=MAX_BLOCKS)

Side = Annotated[int, Field(ge=1, le=16_384)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
BlockWidths = Annotated[Listed[Width], _BLOCKS]
Layers = Annotated[int, Field(ge=1, le=MAX_LAYERS)]
BlockLayers = Annotated[PerBlock[Layers], _BLOCKS]
Groups = PerBlock[Annotated[int, Field(ge=1, le=1024)]]
Stride = Annotated[Literal[1, 2], BeforeValidator(whole_number)]
Kernel = Annotated[Literal[3, 5, 7], BeforeValidator(whole_number)]
Expansion = Annotated[int, Field(ge=1, le=16)]
Squeeze = Annotated[float, Field(ge=0.0, le=1.0)]
Factor = Annotated[float, Field(gt=0.0, le=16.0)]
Convolution = Literal["plain", "separable"]
"""A k x k convolution as it is, or a depthwise one and a 1x1 one after it (Howard et al., 2017)."""
Between = Literal["norm-activation", "norm", "activation", "nothing"]
"""What stands between the two convolutions of a separable one."""
BETWEEN: Between = "norm-activation"
Activation = Literal["relu", "silu", "hard-swish"]


class Input(Model):
    """The shape of one image."""

    channels: Side = 3
    height: Side = 32
    width: Side = 32


class Stem(Model):
    """The first convolution.

    Attributes:
        width: Its output channels.
        kernel: The size of its kernel.
        stride: Its stride; 2 and 4 halve the image once and twice.
    """

    width: Width
    kernel: Annotated[Literal[1, 3, 5, 7], BeforeValidator(whole_number)] = 3
    stride: Annotated[Literal[1, 2, 4], BeforeValidator(whole_number)] = 1

    @property
    def halvings(self) -> int:
        """How often it halves the image."""
        return self.stride.bit_length() - 1

    def rounded(self, multiple: int, factor: float = 1.0) -> Stem:
        """Returns the stem with its width times a factor, rounded to a multiple."""
        width = round_within(multiplied(self.width, factor), multiple)
        return self.model_copy(update={"width": width})


class DenseNet(Family):
    """A DenseNet for small images (Huang et al., 2017), with grouped convolutions.

    Attributes:
        stem: The first convolution.
        growth_rate: Channels that each layer adds.
        layers: Layers in each block. A transition between blocks halves the image.
        groups: Groups of the 3x3 convolutions of each block, or of the 1x1 half of separable ones.
        pointwise_groups: Groups of the 1x1 convolutions of each block and of the transition after
            it.
        bottleneck: Width of the 1x1 convolution before each 3x3 one, in growth rates; 0 for none.
        compression: Share of the channels that a transition keeps.
        convolution: `plain`, or `separable`: a depthwise convolution and a 1x1 one after it (Howard
            et al., 2017).
        between: What stands between the halves of separable convolutions; plain ones have none, and
            keep the default.
    """

    title: ClassVar[str] = "a DenseNet"
    listed: ClassVar[str] = "layers"

    family: Literal["densenet"]
    stem: Stem
    growth_rate: Annotated[int, Field(ge=1, le=MAX_GROWTH)]
    layers: Annotated[Listed[Layers], Field(min_length=1, max_length=8)]
    groups: Groups = (1,)
    pointwise_groups: Groups = (1,)
    bottleneck: Annotated[int, Field(ge=0, le=64)] = 4
    compression: Share = 0.5
    convolution: Convolution = "plain"
    between: Between = BETWEEN

    @model_validator(mode="after")
    def _widths_that_groups_divide(self) -> DenseNet:
        multiple = math.lcm(*self.groups, *self.pointwise_groups)
        if multiple > MAX_GROWTH:
            found = f"growth_rate has to be a multiple of {multiple}"
            expected = f"groups with a least common multiple of at most {MAX_GROWTH}"
            raise ValueError(f"{found} for groups and pointwise_groups, expected {expected}")
        self._settle(
            between=self.between if self.convolution == "separable" else BETWEEN,
            growth_rate=round_within(self.growth_rate, multiple, MAX_GROWTH),
            stem=self.stem.rounded(self.groups_reading(0)),
        )
        return self

    @property
    def halvings(self) -> int:
        """Returns how often the image is halved."""
        return self.stem.halvings + self.blocks - 1

    def groups_reading(self, block: int) -> int:
        """Returns a number whose multiple the width of a block's input must be."""
        reading = 1 if self.bottleneck else self.groups[block]
        return math.lcm(reading, self.pointwise_groups[block])


class ResNet(Family):
    """A ResNet for small images (He et al., 2015), with grouped convolutions (Xie et al., 2017).

    Attributes:
        stem: The first convolution.
        widths: Widths of the 3x3 convolutions of each block.
        layers: Residual layers in each block. All blocks but the first begin with a stride of 2.
        layer: `basic`, two 3x3 convolutions; or `bottleneck`, 1x1, 3x3 and 1x1, the last one four
            times as wide.
        groups: Groups of the 3x3 convolutions of each block, or of the 1x1 half of separable ones.
        convolution: `plain`, or `separable`: a depthwise convolution and a 1x1 one after it (Howard
            et al., 2017).
        between: What stands between the halves of separable convolutions; plain ones have none, and
            keep the default.
    """

    title: ClassVar[str] = "a ResNet"

    family: Literal["resnet"]
    stem: Stem
    widths: BlockWidths
    layers: BlockLayers
    layer: Literal["basic", "bottleneck"] = "basic"
    groups: Groups = (1,)
    convolution: Convolution = "plain"
    between: Between = BETWEEN

    @model_validator(mode="after")
    def _widths_that_groups_divide(self) -> ResNet:
        multiples, first = list(self.groups), 1
        if self.layer == "basic":  # its first convolution reads what the block before puts out
            multiples = [math.lcm(own, after) for own, after in pairwise((*self.groups, 1))]
            first = self.groups[0]
        self._settle(
            widths=round_all(self.widths, multiples),
            stem=self.stem.rounded(first),
            between=self.between if self.convolution == "separable" else BETWEEN,
        )
        return self

    @property
    def halvings(self) -> int:
        """Returns how often the image is halved."""
        return self.stem.halvings + self.blocks - 1


class EfficientNet(Family):
    """An EfficientNet (Tan and Le, 2019): inverted residuals, with squeeze-and-excite.

    Attributes:
        stem: The first convolution.
        widths: Output channels of each block.
        layers: Inverted residuals in each block; the first one has the block's stride.
        strides: Stride of each block; 2 halves the image.
        kernels: Kernel size of the depthwise convolutions of each block.
        expansions: How many times wider inverted residuals are inside; 1 for no 1x1 expansion.
        squeeze: Width of squeeze-and-excite as a share of the channels that enter; 0 for none.
        groups: Groups of the 1x1 convolutions of each block.
        convolution: `separable`, as published: 1x1, depthwise k x k, 1x1; or `plain`, where one
            k x k convolution takes the place of the first two (EfficientNetV2, Tan and Le, 2021).
        between: What stands between the depthwise convolution and the 1x1 one after it, where the
            convolution is separable; plain ones keep the default. A layer that has no activation
            inside then has one at its end.
        activation: What follows the norms.
        head: Width of the 1x1 convolution before the classifier; 0 for none.
        width_multiplier: Factor of the stem, widths and head, which are then rounded to multiples
            of 8 as published. The candidate holds the products, and 1 here.
        depth_multiplier: Factor of the layers, which are then rounded up. The candidate holds the
            products, and 1 here.
    """

    title: ClassVar[str] = "an EfficientNet"

    family: Literal["efficientnet"]
    stem: Stem
    widths: BlockWidths
    layers: BlockLayers
    strides: PerBlock[Stride] = (1,)
    kernels: PerBlock[Kernel] = (3,)
    expansions: PerBlock[Expansion] = (4,)
    squeeze: PerBlock[Squeeze] = (0.0,)
    groups: Groups = (1,)
    convolution: Convolution = "separable"
    between: Between = BETWEEN
    activation: Activation = "relu"
    head: Annotated[int, Field(ge=0, le=MAX_WIDTH)] = 0
    width_multiplier: Factor = 1.0
    depth_multiplier: Factor = 1.0

    @model_validator(mode="after")
    def _multiplied_widths_that_groups_divide(self) -> EfficientNet:
        factor, multiples = self.width_multiplier, [*self.groups, 1]
        widths = [multiplied(width, factor) for width in self.widths]
        layers = (math.ceil(layers * self.depth_multiplier) for layers in self.layers)
        self._settle(
            stem=self.stem.rounded(multiples[0], factor),
            widths=round_all(widths, [math.lcm(*pair) for pair in pairwise(multiples)]),
            head=multiplied(self.head, factor),
            layers=tuple(min(count, MAX_LAYERS) for count in layers),
            between=self.between if self.convolution == "separable" else BETWEEN,
            width_multiplier=1.0,
            depth_multiplier=1.0,
        )
        return self

    @property
    def halvings(self) -> int:
        """Returns how often the image is halved."""
        return self.stem.halvings + sum(stride == 2 for stride in self.strides)


Network = Annotated[DenseNet | ResNet | EfficientNet, Field(discriminator="family")]
