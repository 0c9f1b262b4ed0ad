"""Rounding that gradients pass, to scales that are learned as in LSQ (Esser et al., 2020)."""

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
"""How many values go through all operations before the next ones, to stay in the cache."""


def by_row(scale: Tensor, values: Tensor) -> Tensor:
    """Returns a scale (rows,) as (rows, 1, ...), to multiply values (rows, ...) by."""
    return scale.view(-1, *[1] * (values.dim() - 1))


def straight(rounded: Tensor, value: Tensor) -> Tensor:
    """Returns what was rounded, and passes its gradient to the value before."""
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
    """Returns scales from where they started and the logarithms of their ratios, not bounded."""
    return start * log_ratio.exp()


def rounded(value: Tensor, start: Tensor, log_ratio: Tensor, low: int, high: int) -> Tensor:
    """Rounds values to integers times learned scales, in the memory layout of the values.

    A value passes its gradient unless it is rounded to an integer out of bounds. The gradient of a
    scale has the factor of LSQ. A scale below `SMALLEST_SCALE` counts as that and has no gradient.

    Args:
        value: Float32 (N, ...).
        start: The scales that learning started from, (N,) or (1,).
        log_ratio: The logarithms of the ratios of the scales to these, which are learned.
        low: The least integer.
        high: The greatest integer.
    """
    factor = 1.0 / math.sqrt(value.shape[1:].numel() * high)
    if value.is_cuda:
        return _rounded_by_torch(value, scales(start, log_ratio), low, high, factor)
    found: Tensor = _Rounded.apply(value, start, log_ratio, (low, high), factor)
    return found


def _rounded_by_torch(value: Tensor, scale: Tensor, low: int, high: int, factor: float) -> Tensor:
    """Uses torch's operators, which are one kernel on a GPU but slow and scalar on a processor."""
    scale = scale.clamp_min(SMALLEST_SCALE)
    zero = torch.zeros_like(scale)
    if len(scale) == 1:
        return torch._fake_quantize_learnable_per_tensor_affine(
            value, scale, zero, low, high, factor
        )
    return torch._fake_quantize_learnable_per_channel_affine(
        value, scale, zero, 0, low, high, factor
    )


class _Rounded(torch.autograd.Function):
    """Does what `rounded` says in vectorised operations, one part of the values at a time."""

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
            # by the logarithm of the scale: integer times scale, less the value where it passes
            slope = torch.sub(result, inside, out=inside).mul_(given)
            slopes.append(slope.sum_to_size(times.shape))
        slope = torch.cat(slopes).sum_to_size(inverse.shape).mul_(unbounded >= SMALLEST_SCALE)
        return passed, None, slope.mul_(ctx.factor).view(-1), None, None


def _parts(value: Tensor, *others: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Cuts values and others into runs of rows; others of a single row go with each run."""
    if value.numel() <= _PART or len(value) == 1:
        return [(value, *others)]
    rows = max(1, _PART // value.shape[1:].numel())
    runs = (repeat(other) if len(other) == 1 else other.split(rows) for other in others)
    return zip(value.split(rows), *runs, strict=False)


def _where_within(bounds: tuple[int, int], integer: Tensor, value: Tensor, out: Tensor) -> Tensor:
    """Writes each value whose integer is in bounds, and zero for the others, in one pass."""
    low, high = bounds
    torch.ops.aten.hardtanh_backward.grad_input(
        value, integer, low - 0.5, high + 0.5, grad_input=out
    )
    return out
