"""Quantizers: modules that round weights, or inputs of layers, to few bits.

Weights become integers from -2^(b-1) to 2^(b-1) - 1, or signs, with a scale for each output
channel. Inputs have one scale a layer, or one an image, and are unsigned where they are never
negative. The scales of a layer are learned (LSQ, Esser et al., 2020) by their logarithms (TQT, Jain
et al., 2020); those of signs and of images follow from the values. Shapes stay.
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
    """Returns the least and the greatest integer of a width. One bit is a sign, or zero."""
    if bits == 1:
        return (-1, 1)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


class Quantizer(nn.Module):
    """Rounds values to integers times learned scales, with the gradients of LSQ.

    A scale is learned as the logarithm of its ratio to where it started. Scales of 8 bits are about
    a thousandth, so a step of gradient descent on the scale itself would throw it below zero.
    """

    start: Tensor

    def __init__(self, bits: int, count: int, *, signed: bool) -> None:
        super().__init__()
        self.low, self.high = bounds(bits, signed=signed)
        self.log_ratio = nn.Parameter(torch.zeros(count))
        self.register_buffer("start", torch.ones(count))

    def forward(self, value: Tensor) -> Tensor:
        """Rounds each row to its scale, or all rows to the only one."""
        return rounded(value.float(), self.start, self.log_ratio, self.low, self.high)

    @property
    def scale(self) -> Tensor:
        """Returns the scales, (scales,), at least `SMALLEST_SCALE`."""
        return scales(self.start, self.log_ratio).clamp_min(SMALLEST_SCALE)

    @torch.no_grad()
    def set_scale(self, scale: Tensor) -> None:
        """Starts again from exactly these scales."""
        self.start.copy_(scale)
        self.log_ratio.zero_()


class WeightQuantizer(Quantizer):
    """Rounds weights to integers times one learned scale per output channel."""

    def __init__(self, bits: int, channels: int) -> None:
        super().__init__(bits, channels, signed=True)

    def scale_of(self, weight: Tensor) -> Tensor:
        """Returns the scale of each output channel, (out,)."""
        return self.scale

    def integers(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Returns the multiples of the scales (out,) to which weights are rounded."""
        return (weight / by_row(scale, weight)).round().clamp(self.low, self.high)


class SignQuantizer(nn.Module):
    """Rounds weights to signs times their mean magnitude per output channel.

    These are the binary weights of XNOR-Net (Rastegari et al., 2016), with a straight-through
    gradient. Zeros are pruned weights: they stay zero and do not count in the mean.
    """

    low, high = bounds(1, signed=True)

    def forward(self, weight: Tensor) -> Tensor:
        """Rounds weights (out, ...)."""
        scale = by_row(self.scale_of(weight), weight)
        return straight(weight.detach().sign() * scale, weight)

    def scale_of(self, weight: Tensor) -> Tensor:
        """Returns the scale of each output channel, (out,), at least `SMALLEST_SCALE`."""
        rows = weight.detach().flatten(1)
        return (rows.abs().sum(1) / rows.count_nonzero(1).clamp_min(1)).clamp_min(SMALLEST_SCALE)

    def integers(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Returns the signs, which are the same for any scale."""
        return weight.sign()


class InputQuantizer(Quantizer):
    """Rounds the input of a layer to integers times one learned scale."""

    def __init__(self, bits: int, *, signed: bool) -> None:
        super().__init__(bits, 1, signed=signed)


class DynamicInputQuantizer(nn.Module):
    """Rounds the input of a layer to integers times one scale an image, without clipping.

    The scale is a thousandth above the smallest possible one. With the smallest, many outputs of
    layers with integer weights, which are multiples of one number, would lie exactly between two
    steps, where the order of a sum decides how they are rounded. The gradient passes straight
    through. Nothing is learned or stored.

    Attributes:
        reach: The largest value of an image, in steps, before it is rounded.
    """

    def __init__(self, bits: int, *, signed: bool) -> None:
        super().__init__()
        self.low, self.high = bounds(bits, signed=signed)
        self.reach = 0.999 * self.high

    def forward(self, value: Tensor) -> Tensor:
        """Rounds each image of (N, ...) to its own scale."""
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
        """Rounds values of any shape, and keeps their type."""
        return straight(value.detach().half().to(value.dtype), value)


class QuantizedConv2d(nn.Conv2d):
    """A convolution with quantized weights and input."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Convolves an image, as the plain layer does."""
        weight = self.weight_quantizer(self.weight)
        output: Tensor = self._conv_forward(self.input_quantizer(input), weight, self.bias)
        return output


class QuantizedLinear(nn.Linear):
    """A linear layer with quantized weights and input."""

    weight_quantizer: nn.Module
    input_quantizer: nn.Module

    def forward(self, input: Tensor) -> Tensor:
        """Multiplies an input, as the plain layer does."""
        weight = self.weight_quantizer(self.weight)
        return nn.functional.linear(self.input_quantizer(input), weight, self.bias)
