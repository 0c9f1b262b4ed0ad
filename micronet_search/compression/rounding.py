"""Rounding with gradients: straight through, or with the scales of LSQ (Esser et al., 2020)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

SMALLEST_SCALE = 2.0**-14
"""The smallest scale: the smallest normal number of half precision, in which they are stored."""

_PART = 2**18
"""Number of values that go through all operations before the next ones, to stay in the cache."""


def by_row(scale: Tensor, values: Tensor) -> Tensor:
    """Returns scales (rows,) in a shape that multiplies values (rows, ...)."""
    return scale.view(-1, *[1] * (values.dim() - 1))


def straight(rounded: Tensor, value: Tensor) -> Tensor:
    """Returns rounded values that pass their gradient on to the values before rounding."""
    found: Tensor = _Straight.apply(rounded, value)
    return found


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rounded: Tensor, value: Tensor) -> Tensor:
        return rounded

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        return None, gradient


def scales(start: Tensor, log_ratio: Tensor) -> Tensor:
    """Returns scales, not bounded yet, from the logarithms of their ratios to their start."""
    return start * log_ratio.exp()


def rounded(value: Tensor, start: Tensor, log_ratio: Tensor, low: int, high: int) -> Tensor:
    """Rounds values to integers times learned scales, and keeps their shape and memory layout.

    A value passes its gradient where it rounds to an integer within the bounds. The gradient of a
    scale has the factor of LSQ. A scale below `SMALLEST_SCALE` is raised to it and has no gradient.

    Args:
        value: Float32 (N, ...).
        start: The scales from which learning started, (N,) or (1,).
        log_ratio: The learned logarithms of the ratios of the scales to their start.
        low: The least integer.
        high: The greatest integer, which is above 0.
    """
    factor = 1.0 / math.sqrt(value.shape[1:].numel() * high)
    if value.is_cuda:
        return _rounded_by_torch(value, scales(start, log_ratio), low, high, factor)
    found: Tensor = _Rounded.apply(value, start, log_ratio, (low, high), factor)
    return found


def _rounded_by_torch(value: Tensor, scale: Tensor, low: int, high: int, factor: float) -> Tensor:
    """Rounds with torch's operators, one kernel on a GPU, but slow and scalar on a processor."""
    scale = scale.clamp_min(SMALLEST_SCALE)
    zero = torch.zeros_like(scale)
    if len(scale) == 1:
        by_tensor = torch._fake_quantize_learnable_per_tensor_affine
        return by_tensor(value, scale, zero, low, high, factor)
    by_channel = torch._fake_quantize_learnable_per_channel_affine
    return by_channel(value, scale, zero, 0, low, high, factor)


class _Rounded(torch.autograd.Function):
    """Rounds with vectorised operations, one part of the values after another."""

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
        inverse, found = scale.reciprocal(), torch.empty_like(value)
        for part, into, times, by in _parts(value, found, inverse, scale):
            torch.mul(part, times, out=into).round_().clamp_(*bounds).mul_(by)
        ctx.save_for_backward(value, found, inverse, unbounded)
        ctx.bounds, ctx.factor = bounds, factor
        return found

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        value, found, inverse, unbounded = ctx.saved_tensors
        passed, slopes = torch.empty_like(value), []
        for part, result, given, into, times in _parts(value, found, gradient, passed, inverse):
            integer = part.mul(times).round_()
            _where_within(ctx.bounds, integer, given, into)
            inside = _where_within(ctx.bounds, integer, part, integer)
            # the derivative by the log of the scale: the result, less the value within the bounds
            slope = torch.sub(result, inside, out=inside).mul_(given)
            slopes.append(slope.sum_to_size(times.shape))
        slope = torch.cat(slopes).sum_to_size(inverse.shape).mul_(unbounded >= SMALLEST_SCALE)
        return passed, None, slope.mul_(ctx.factor).view(-1), None, None


def _parts(value: Tensor, *others: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Cuts tensors into runs of rows. A tensor of a single row goes with each run."""
    if value.numel() <= _PART or len(value) == 1:
        return [(value, *others)]
    rows = max(1, _PART // value.shape[1:].numel())
    runs = (repeat(other) if len(other) == 1 else other.split(rows) for other in others)
    return zip(value.split(rows), *runs, strict=False)


def _where_within(bounds: tuple[int, int], integer: Tensor, value: Tensor, out: Tensor) -> Tensor:
    """Writes each value whose integer is within the bounds, and zero for others, in one pass."""
    low, high = bounds
    torch.ops.aten.hardtanh_backward.grad_input(
        value, integer, low - 0.5, high + 0.5, grad_input=out
    )
    return out
