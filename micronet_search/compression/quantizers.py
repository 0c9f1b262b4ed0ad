"""Quantizers: modules that round weights, or inputs of layers, to few bits.

Weights have a scale for each output channel. Inputs have one scale a layer, or one an image, and
are unsigned where they are never negative. The scales of a layer are learned (LSQ, Esser et al.,
2020) by their logarithms (TQT, Jain et al., 2020); the others follow from the values. Shapes stay.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

SMALLEST_SCALE = 2.0**-14
"""The smallest scale: the smallest normal number of half precision, in which they are stored."""

BETWEEN_STEPS = 1.0 - 2.0**-12
"""The factor of inputs before they are rounded, where a network is evaluated."""


def bounds(bits: int, *, signed: bool) -> tuple[int, int]:
    """Returns the least and the greatest integer of a width. One bit is a sign, or zero."""
    if bits == 1:
        return (-1, 1)
    return (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)


def by_row(scale: Tensor, values: Tensor) -> Tensor:
    """Returns scales (rows,) in a shape that multiplies values (rows, ...)."""
    return scale.view(-1, *[1] * (values.dim() - 1))


def scales(start: Tensor, log_ratio: Tensor) -> Tensor:
    """Returns scales, not bounded yet, from the logarithms of their ratios to their start."""
    return start * log_ratio.exp()


def rounded(value: Tensor, start: Tensor, log_ratio: Tensor, low: int, high: int) -> Tensor:
    """Rounds float32 values (N, ...) to integers, `low` to `high`, times N learned scales, or one.

    A value passes its gradient where it rounds to an integer within the bounds. The gradient of a
    scale has the factor of LSQ. A scale below `SMALLEST_SCALE` is raised to it and has no gradient.
    """
    factor = 1.0 / math.sqrt(value.shape[1:].numel() * high)
    if not value.is_cuda:
        found: Tensor = _Rounded.apply(value, start, log_ratio, (low, high), factor)
        return found
    # torch's operators are one kernel on a GPU, but slow and scalar on a processor
    scale = scales(start, log_ratio).clamp_min(SMALLEST_SCALE)
    zero, rest = torch.zeros_like(scale), (low, high, factor)
    if len(scale) == 1:
        return torch._fake_quantize_learnable_per_tensor_affine(value, scale, zero, *rest)
    return torch._fake_quantize_learnable_per_channel_affine(value, scale, zero, 0, *rest)


class _Rounded(torch.autograd.Function):
    """Rounds with vectorised operations."""

    @staticmethod
    def forward(
        ctx: Any,
        value: Tensor,
        start: Tensor,
        log_ratio: Tensor,
        bounds: tuple[int, int],
        factor: float,
    ) -> Tensor:
        unbounded = by_row(scales(start, log_ratio), value)
        scale = unbounded.clamp_min(SMALLEST_SCALE)
        inverse = scale.reciprocal()
        found = (value * inverse).round_().clamp_(*bounds).mul_(scale)
        ctx.save_for_backward(value, found, inverse, unbounded)
        ctx.bounds, ctx.factor = bounds, factor
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, found, inverse, unbounded = ctx.saved_tensors
        low, high = ctx.bounds[0] - 0.5, ctx.bounds[1] + 0.5
        if len(inverse) == 1:  # compares the values themselves, which saves a pass over them
            scale = 1 / inverse.item()
            # half a step below the lower bound, which is even, rounds to it
            compared, low, high = value, low * scale * (1 + 2**-23), high * scale
        else:
            compared = (value * inverse).round_()
        # writes the gradient where the integer is within the bounds, and zero elsewhere, at once
        write = torch.ops.aten.hardtanh_backward.grad_input
        passed = write(gradient, compared, low, high, grad_input=torch.empty_like(value))
        # the derivative by the log of the scale: the result, less the value within the bounds
        slope = _products(gradient, found, inverse) - _products(passed, value, inverse)
        slope = slope * (unbounded >= SMALLEST_SCALE) * ctx.factor
        return passed, None, slope.view(-1), None, None


def _products(one: Tensor, other: Tensor, like: Tensor) -> Tensor:
    """Returns the sum of products of two tensors, a row or all at once, in the shape of `like`."""
    if len(like) > 1:
        return (one * other).sum_to_size(like.shape)
    order = sorted(range(one.dim()), key=other.stride, reverse=True)  # as they lie in memory
    flat = (each.permute(order).reshape(-1) for each in (one, other))
    return torch.dot(*flat).view_as(like)


class _Straight(torch.autograd.Function):
    """Returns rounded values that pass their gradient on to the values before rounding."""

    @staticmethod
    def forward(ctx: Any, rounded: Tensor, value: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


class Quantizer(nn.Module):
    """Rounds values to integers times learned scales, with the gradients of LSQ.

    What is learned is the logarithm of a scale's ratio to its start: one of 8 bits is about a
    thousandth, and a step of gradient descent on itself would throw it below zero.
    """

    start: Tensor

    def __init__(self, bits: int, count: int = 1, *, signed: bool = True) -> None:
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

    def scale_of(self, weight: Tensor) -> Tensor:
        """Returns the scale of each output channel, (out,)."""
        return self.scale

    def integers(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Returns the multiples of the scales (out,) to which weights are rounded."""
        return (weight / by_row(scale, weight)).round().clamp(self.low, self.high)


class SignQuantizer(nn.Module):
    """Rounds weights to signs times their mean magnitude per channel (Rastegari et al., 2016).

    Pruned weights are zero, stay zero and do not count in the mean.
    """

    def forward(self, weight: Tensor) -> Tensor:
        """Rounds weights (out, ...)."""
        scale = by_row(self.scale_of(weight), weight)
        signs: Tensor = _Straight.apply(weight.detach().sign() * scale, weight)
        return signs

    def scale_of(self, weight: Tensor) -> Tensor:
        """Returns the scale of each output channel, (out,), at least `SMALLEST_SCALE`."""
        rows = weight.detach().flatten(1)
        return (rows.abs().sum(1) / rows.count_nonzero(1).clamp_min(1)).clamp_min(SMALLEST_SCALE)

    def integers(self, weight: Tensor, scale: Tensor) -> Tensor:
        """Returns the signs, which are the same for any scale."""
        return weight.sign()


class InputQuantizer(Quantizer):
    """Rounds the input of a layer to integers times one learned scale.

    In evaluation values are made a little smaller first. Scales and biases in half precision are
    whole multiples of powers of two, so that many sums would lie exactly between two steps, where
    the order of a sum, and so the layout of memory, decides how they are rounded.
    """

    def forward(self, value: Tensor) -> Tensor:
        """Rounds values of any shape to the one scale."""
        return super().forward(value if self.training else value.float() * BETWEEN_STEPS)


class DynamicInputQuantizer(nn.Module):
    """Rounds the input of a layer to integers times one scale an image, without clipping.

    `reach` is the largest value of an image in steps. The scale is a thousandth above the smallest
    one, with which many outputs of layers with integer weights, multiples of one number, would lie
    exactly between two steps, where the order of a sum decides how they are rounded.
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
        result: Tensor = _Straight.apply(integers.mul_(scale), value)
        return result


class Half(nn.Module):
    """Rounds to half precision; the gradient passes straight through."""

    def forward(self, value: Tensor) -> Tensor:
        """Rounds values of any shape, and keeps their type."""
        result: Tensor = _Straight.apply(value.detach().half().to(value.dtype), value)
        return result
