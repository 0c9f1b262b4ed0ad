"""Quantization: fewer bits for weights and for the inputs of layers, learned by fine-tuning.

Weights are symmetric per output channel, from -2^(b-1) to 2^(b-1) - 1, or signs; inputs have one
scale a layer, or one an image, and are unsigned where they are never negative. The scales of a
layer are learned (LSQ, Esser et al., 2020) by their logarithms (TQT, Jain et al., 2020); those of
signs and of images follow from the values.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from micronet_search.compression.fold import fold
from micronet_search.compression.graph import nonnegative_inputs
from micronet_search.compression.rounding import (
    SMALLEST_SCALE,
    by_row,
    rounded,
    scales,
    straight,
)
from micronet_search.network.precision import Plan, Precision, layers_of

_SAMPLES = 2**13
_GRID = 40


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


def insert(network: nn.Module, plan: Plan) -> None:
    """Folds the norms that are to be, and puts quantizers in, in place; scales to learn are 1."""
    if plan.rest_bits == 32:
        return
    fold(network, plan)
    nonnegative = nonnegative_inputs(network)
    for name, layer in layers_of(network).items():
        precision = plan.layers[name]
        # the layer keeps its parameters and hyperparameters, and gains the quantizers
        layer.__class__ = QuantizedConv2d if isinstance(layer, nn.Conv2d) else QuantizedLinear
        layer.weight_quantizer = _weight_quantizer(precision, layer.weight.shape[0])
        layer.input_quantizer = _input_quantizer(precision, signed=name not in nonnegative)
        layer.to(layer.weight.device)


def _weight_quantizer(precision: Precision, channels: int) -> nn.Module:
    if precision.weight_bits == 1:
        return SignQuantizer()
    if precision.scales_weights:
        return WeightQuantizer(precision.weight_bits, channels)
    return Half() if precision.weight_bits == 16 else nn.Identity()


def _input_quantizer(precision: Precision, *, signed: bool) -> nn.Module:
    if precision.scales_input:
        kind = DynamicInputQuantizer if precision.dynamic else InputQuantizer
        return kind(precision.activation_bits, signed=signed)
    return Half() if precision.activation_bits == 16 else nn.Identity()


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets every learned scale to the one with the least squared error, in place.

    Args:
        network: With quantizers in.
        batches: Normalised training images, each (N, C, H, W).
    """
    inputs: dict[str, list[Tensor]] = {}
    handles = []
    for name, layer in layers_of(network).items():
        rounding = layer.weight_quantizer
        if isinstance(rounding, WeightQuantizer):
            rounding.set_scale(best_scale(layer.weight.flatten(1), rounding.low, rounding.high))
        if isinstance(layer.input_quantizer, InputQuantizer):
            inputs[name] = []
            handles.append(layer.input_quantizer.register_forward_hook(_collect(inputs[name])))
    network.eval()
    for batch in batches:
        network(batch)
    for handle in handles:
        handle.remove()
    for name, seen in inputs.items():
        quantizer = network.get_submodule(f"{name}.input_quantizer")
        assert isinstance(quantizer, InputQuantizer)
        values = torch.cat(seen)[None]
        quantizer.set_scale(best_scale(values, quantizer.low, quantizer.high))


def _collect(
    seen: list[Tensor],
) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    """A hook that keeps a sample of a quantizer's input, and passes it on as it was."""

    def hook(_: nn.Module, inputs: tuple[Tensor, ...], __: Tensor) -> Tensor:
        flat = inputs[0].flatten()
        step = max(1, flat.numel() // _SAMPLES)
        # without a common divisor, or it would see the first pixel of each row alone
        while math.gcd(step, flat.numel()) > 1:
            step += 1
        seen.append(flat[::step].float())
        value: Tensor = inputs[0]
        return value

    return hook


def best_scale(values: Tensor, low: int, high: int) -> Tensor:
    """The scale of each row with the least squared error, among 40 even parts of its range.

    Args:
        values: (rows, samples).
        low: The least integer.
        high: The greatest.

    Returns:
        (rows,), at least `SMALLEST_SCALE`.
    """
    largest = values.abs().amax(1)
    best = torch.full_like(largest, SMALLEST_SCALE)
    least = torch.full_like(largest, torch.inf)
    for part in range(1, _GRID + 1):
        scale = (largest / high * (part / _GRID)).clamp_min(SMALLEST_SCALE)
        rounded = (values / scale[:, None]).round().clamp(low, high) * scale[:, None]
        error = (rounded - values).square().sum(1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best
