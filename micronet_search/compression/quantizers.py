"""Quantizers: modules that round weights, or inputs of layers, to few bits.

Weights are symmetric per output channel, from -2^(b-1) to 2^(b-1) - 1, or signs; inputs have one
scale a layer, or one an image, and are unsigned where they are never negative. The scales of a
layer are learned (LSQ, Esser et al., 2020) by their logarithms (TQT, Jain et al., 2020); those of
signs and of images follow from the values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from micronet_search.compression.rounding import (
    SMALLEST_SCALE,
    by_row,
    rounded,
    scales,
    straight,
)


def bounds(bits: int, *, signed: bool) -> tuple[int, int]:
    """The least and the greatest integer of a width; one bit is a sign, and zero where pruned."""
    if bits == 1:
        return (-1, 1)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


class Quantizer(nn.Module):
    """Integers of a width, and the learned scales that they are multiples of.

    A scale is learned as the logarithm of its ratio to where it started: the scales of 8 bits are a
    thousandth, and a step of gradient descent taken on them as they are throws them below zero.
    """

    start: Tensor

    def __init__(self, bits: int, count: int, *, signed: bool) -> None:
        super().__init__()
        self.low, self.high = bounds(bits, signed=signed)
        self.log_ratio = nn.Parameter(torch.zeros(count))
        self.register_buffer("start", torch.ones(count))

    @property
    def scale(self) -> Tensor:
        """(scales,), at least `SMALLEST_SCALE`."""
        return scales(self.start, self.log_ratio).clamp_min(SMALLEST_SCALE)

    @torch.no_grad()
    def set_scale(self, scale: Tensor) -> None:
        """Starts again from these scales, exactly."""
        self.start.copy_(scale)
        self.log_ratio.zero_()


class WeightQuantizer(Quantizer):
    """Rounds weights to integers times one learned scale per output channel."""

    def __init__(self, bits: int, channels: int) -> None:
        super().__init__(bits, channels, signed=True)

    def forward(self, weight: Tensor) -> Tensor:
        """(out, ...) to the same shape, on the grid; gradients as LSQ has them."""
        return rounded(weight, self.start, self.log_ratio, self.low, self.high)

    def scale_of(self, weight: Tensor) -> Tensor:
        """The scale of each output channel, (out,)."""
        return self.scale

    def integers(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The multiples of the scales that weights are rounded to, in the shape of the weights."""
        return (weight / by_row(scale, weight)).round().clamp(self.low, self.high)


class SignQuantizer(nn.Module):
    """Rounds weights to signs times their mean magnitude per output channel.

    The binary weights of XNOR-Net (Rastegari et al., 2016), with a straight-through gradient. Zeros
    are pruned: they stay, and the mean is over the rest.
    """

    low, high = bounds(1, signed=True)

    def forward(self, weight: Tensor) -> Tensor:
        """(out, ...) to the same shape."""
        scale = by_row(self.scale_of(weight), weight)
        return straight(weight.detach().sign() * scale, weight)

    def scale_of(self, weight: Tensor) -> Tensor:
        """The scale of each output channel, (out,), at least `SMALLEST_SCALE`."""
        rows = weight.detach().flatten(1)
        return (rows.abs().sum(1) / rows.count_nonzero(1).clamp_min(1)).clamp_min(SMALLEST_SCALE)

    def integers(self, weight: Tensor, scale: Tensor) -> Tensor:
        """The signs, in the shape of the weights; they are the same for any scale."""
        return weight.sign()


class InputQuantizer(Quantizer):
    """Rounds the input of a layer to integers times one learned scale."""

    def __init__(self, bits: int, *, signed: bool) -> None:
        super().__init__(bits, 1, signed=signed)

    def forward(self, value: Tensor) -> Tensor:
        """(N, ...) to the same shape, on the grid; gradients as LSQ has them."""
        return rounded(value.float(), self.start, self.log_ratio, self.low, self.high)


class DynamicInputQuantizer(nn.Module):
    """Rounds the input of a layer to integers times one scale an image, without clipping.

    The scale is a thousandth above the least. What a layer with integer weights makes of an image
    is a multiple of one number; with the least scale many values are halves of a step exactly, and
    the order of a sum decides how they are rounded. The gradient passes straight through; nothing
    is learned or stored.

    Attributes:
        low: The least integer.
        high: The greatest.
        reach: What the largest value of an image becomes before it is rounded.
    """

    def __init__(self, bits: int, *, signed: bool) -> None:
        super().__init__()
        self.low, self.high = bounds(bits, signed=signed)
        self.reach = 0.999 * self.high

    def forward(self, value: Tensor) -> Tensor:
        """(N, ...) to the same shape, each image on a grid of its own."""
        value = value.float()
        seen, pixels = value.detach(), tuple(range(1, value.dim()))
        largest = seen.amax(pixels)
        if self.low < 0:
            largest = torch.maximum(largest, -seen.amin(pixels))
        scale = by_row((largest / self.reach).clamp_min(SMALLEST_SCALE), seen)
        integers = (seen / scale).round_().clamp_(self.low, self.high)
        return straight(integers.mul_(scale), value)


class Half(nn.Module):
    """Rounds to half precision; the gradient passes straight through."""

    def forward(self, value: Tensor) -> Tensor:
        """Any shape to the same, in the type that came."""
        return straight(value.detach().half().to(value.dtype), value)


class QuantizedConv2d(nn.Conv2d):
    """A convolution whose weights and input go through quantizers first."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """As the plain convolution."""
        weight = self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(self.input_quantizer(input), weight, self.bias)
        return output


class QuantizedLinear(nn.Linear):
    """A linear layer whose weights and input go through quantizers first."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """As the plain layer."""
        weight = self.weight_quantizer(self.weight)
        return nn.functional.linear(self.input_quantizer(input), weight, self.bias)
