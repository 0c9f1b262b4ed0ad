"""Rounding to learned scales against torch's operators for it, which are slow on a processor."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from micronet_search.compression.quantizers import (
    SMALLEST_SCALE,
    InputQuantizer,
    Quantizer,
    WeightQuantizer,
    rounded,
)

LAYOUTS = pytest.mark.parametrize(
    "layout", [torch.contiguous_format, torch.channels_last], ids=["contiguous", "channels-last"]
)
IMAGES = {"images": (6, 4, 5, 5), "pixels": (6, 4, 1, 1), "many-images": (300, 32, 6, 6)}
WEIGHTS = {"3x3": (5, 3, 3, 3), "1x1": (5, 8, 1, 1), "depthwise": (5, 1, 3, 3), "one": (1, 4, 3, 3)}
MANY_WEIGHTS = (520, 64, 3, 3)


def by_torch(value: Tensor, quantizer: Quantizer) -> Tensor:
    scale, low, high = quantizer.scale, quantizer.low, quantizer.high
    zero, factor = torch.zeros_like(scale), 1.0 / math.sqrt(value[0].numel() * high)
    if isinstance(quantizer, InputQuantizer):
        return torch._fake_quantize_learnable_per_tensor_affine(
            value.float(), scale, zero, low, high, factor
        )
    return torch._fake_quantize_learnable_per_channel_affine(
        value, scale, zero, 0, low, high, factor
    )


def gradients(found: Tensor, value: Tensor, quantizer: Quantizer, given: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(found, [value, quantizer.log_ratio], given))


def assert_as_torch(value: Tensor, quantizer: Quantizer) -> None:
    """The same values and value gradients, bit for bit, and sums of scale gradients."""
    value = value.requires_grad_()
    found, expected = quantizer(value), by_torch(value, quantizer)
    assert torch.equal(found, expected)
    assert found.stride() == value.stride()
    given = torch.randn_like(found)
    ours, theirs = (gradients(f, value, quantizer, given) for f in (found, expected))
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].stride() == value.stride()
    # float32 sums of many numbers, in another order
    spread = 1e-5 * float(theirs[1].abs().mean() + given.square().sum().sqrt())
    torch.testing.assert_close(ours[1], theirs[1], rtol=1e-4, atol=spread * quantizer.high)


def moved(quantizer: Quantizer, reach: float) -> Quantizer:
    """With scales that were learned a little, the last integer being at about this value."""
    count = len(quantizer.start)
    quantizer.set_scale((0.5 + torch.rand(count)) * reach / quantizer.high)
    quantizer.log_ratio.data.copy_(0.1 * torch.randn(count))
    return quantizer


@LAYOUTS
@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES.keys())
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_inputs(
    bits: int, signed: bool, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    torch.manual_seed(bits)
    value = torch.randn(shape).to(memory_format=layout)  # unsigned ones clip all that is negative
    assert_as_torch(value, moved(InputQuantizer(bits, signed=signed), reach=1.0))


@LAYOUTS
@pytest.mark.parametrize("shape", WEIGHTS.values(), ids=WEIGHTS.keys())
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights(bits: int, shape: tuple[int, ...], layout: torch.memory_format) -> None:
    torch.manual_seed(bits)
    weight = torch.randn(shape).to(memory_format=layout)
    assert_as_torch(weight, moved(WeightQuantizer(bits, shape[0]), reach=1.0))


def test_many_weights() -> None:
    torch.manual_seed(0)
    weight = torch.randn(MANY_WEIGHTS)
    assert_as_torch(weight, moved(WeightQuantizer(4, len(weight)), reach=2.0))


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_rows_of_a_linear_layer(signed: bool) -> None:
    torch.manual_seed(0)
    assert_as_torch(torch.randn(9, 7), moved(InputQuantizer(4, signed=signed), reach=1.0))
    assert_as_torch(torch.randn(9, 7), moved(WeightQuantizer(4, 9), reach=1.0))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_half_precision_in_single_precision_out(kind: torch.dtype) -> None:
    torch.manual_seed(0)
    value = torch.randn(6, 4, 5, 5).to(kind).to(memory_format=torch.channels_last)
    quantizer = moved(InputQuantizer(4, signed=True), reach=1.0)
    assert quantizer(value).dtype == torch.float32
    assert_as_torch(value, quantizer)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", [2, 3, 8])
def test_halves_of_a_step_and_what_is_far_beyond(bits: int, signed: bool) -> None:
    quantizer = InputQuantizer(bits, signed=signed)
    quantizer.set_scale(torch.tensor([0.25]))
    halves = torch.arange(2 * quantizer.low - 9, 2 * quantizer.high + 10) * 0.125
    assert_as_torch(torch.cat([halves, torch.tensor([-1e6, 1e6, 0.0, -0.0])])[None], quantizer)


@pytest.mark.parametrize("ratio", [0.0, -1.0])
def test_a_scale_below_the_smallest_learns_nothing(ratio: float) -> None:
    quantizer = WeightQuantizer(4, 3)
    quantizer.set_scale(torch.tensor([SMALLEST_SCALE, 1.0, 2 * SMALLEST_SCALE]))
    quantizer.log_ratio.data.fill_(ratio)
    weight = torch.randn(3, 5) * 1e-3
    assert_as_torch(weight, quantizer)
    quantizer(weight).sum().backward()
    assert quantizer.log_ratio.grad is not None
    assert (quantizer.log_ratio.grad == 0).tolist() == [ratio < 0, False, ratio < 0]


def test_a_gradient_in_another_layout_comes_back_in_that_of_the_values() -> None:
    torch.manual_seed(0)
    value = torch.randn(300, 32, 6, 6).to(memory_format=torch.channels_last).requires_grad_()
    quantizer = moved(InputQuantizer(4, signed=True), reach=1.0)
    given = torch.randn(300, 32, 6, 6)
    same = given.to(memory_format=torch.channels_last)
    ours, theirs = (gradients(quantizer(value), value, quantizer, g) for g in (given, same))
    assert torch.equal(ours[0], theirs[0])
    assert ours[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(ours[1], theirs[1])


def test_values_that_are_not_dense() -> None:
    torch.manual_seed(0)
    wide = torch.randn(6, 9, 5, 5).to(memory_format=torch.channels_last)
    quantizer = moved(InputQuantizer(4, signed=True), reach=1.0)
    assert torch.equal(quantizer(wide[:, 2:7]), by_torch(wide[:, 2:7].contiguous(), quantizer))


def test_what_diverged_is_not_rounded_to_numbers() -> None:
    found = rounded(
        torch.tensor([[math.nan, 1.0]]), torch.ones(1), nn.Parameter(torch.zeros(1)), 0, 3
    )
    assert found.isnan().tolist() == [[True, False]]
