"""The fake quantizers against Brevitas's, LSQ's formulas and brute force."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
from brevitas.core.quant import BinaryQuant, IntQuant
from torch import Tensor, nn

from micronet_search.compression.quantizers import (
    SMALLEST_SCALE,
    DynamicInputQuantizer,
    Half,
    InputQuantizer,
    Quantizer,
    SignQuantizer,
    WeightQuantizer,
    bounds,
    by_row,
)

BITS = (2, 3, 4, 8)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [
        (1, True, (-1, 1)),
        (2, True, (-2, 1)),
        (4, True, (-8, 7)),
        (8, True, (-128, 127)),
        (2, False, (0, 3)),
        (8, False, (0, 255)),
    ],
)
def test_bounds(bits: int, signed: bool, expected: tuple[int, int]) -> None:
    assert bounds(bits, signed=signed) == expected


def brevitas(value: Tensor, scale: Tensor, bits: int, *, signed: bool) -> Tensor:
    quantizer = IntQuant(
        narrow_range=False,
        signed=signed,
        input_view_impl=Identity(),
        float_to_int_impl=RoundSte(),
        tensor_clamp_impl=TensorClamp(),
    )
    rounded: Tensor = quantizer(scale, torch.tensor(0.0), torch.tensor(float(bits)), value)
    return rounded


def weights_and_quantizer(bits: int) -> tuple[Tensor, Quantizer]:
    torch.manual_seed(bits)
    return torch.randn(5, 3, 3, 3), WeightQuantizer(bits, 5)


def unsigned_and_quantizer(bits: int) -> tuple[Tensor, Quantizer]:
    torch.manual_seed(bits)
    return torch.randn(6, 4, 5, 5).relu(), InputQuantizer(bits, signed=False)


def signed_and_quantizer(bits: int) -> tuple[Tensor, Quantizer]:
    torch.manual_seed(bits)
    return torch.randn(6, 4, 5, 5), InputQuantizer(bits, signed=True)


Case = Callable[[int], tuple[Tensor, Quantizer]]
CASES = pytest.mark.parametrize(
    "case",
    [
        pytest.param(weights_and_quantizer, id="weights"),
        pytest.param(unsigned_and_quantizer, id="unsigned-inputs"),
        pytest.param(signed_and_quantizer, id="signed-inputs"),
    ],
)


def some_scales(quantizer: Quantizer) -> Tensor:
    """Scales at which a part of the values lies beyond the last integer."""
    return (torch.rand(len(quantizer.start)) + 1.0) / quantizer.high


def shaped(scale: Tensor) -> Tensor:
    return scale.view(-1, 1, 1, 1)


@CASES
@pytest.mark.parametrize("bits", BITS)
def test_forward_and_gradients_are_brevitas(case: Case, bits: int) -> None:
    value, quantizer = case(bits)
    scale = some_scales(quantizer)
    quantizer.set_scale(scale)
    upstream = torch.randn_like(value)

    ours = value.clone().requires_grad_()
    found = quantizer(ours)
    (found * upstream).sum().backward()

    theirs, their_scale = value.clone().requires_grad_(), scale.clone().requires_grad_()
    expected = brevitas(theirs, shaped(their_scale), bits, signed=quantizer.low < 0)
    (expected * upstream).sum().backward()

    assert torch.equal(found, expected)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-6, atol=0.0)
    factor = 1.0 / math.sqrt(value[0].numel() * quantizer.high)
    assert their_scale.grad is not None
    # the logarithm's derivative is the scale's times the scale
    expected_gradient = scale * factor * their_scale.grad
    torch.testing.assert_close(quantizer.log_ratio.grad, expected_gradient, rtol=1e-4, atol=1e-5)


@CASES
@pytest.mark.parametrize("bits", BITS)
def test_the_gradient_of_the_scale_is_that_of_esser(case: Case, bits: int) -> None:
    """Equation 3 of Esser et al. (2020), and the factor of section 2.2.

    As in Brevitas, what rounds to the last integer is not yet beyond it.
    """
    value, quantizer = case(bits)
    scale = some_scales(quantizer)
    quantizer.set_scale(scale)
    quantizer(value).sum().backward()

    ratio = value / shaped(scale)
    rounded = ratio.round()
    clamped = rounded.clamp(quantizer.low, quantizer.high)
    slope = torch.where(rounded == clamped, rounded - ratio, clamped)
    slopes = slope.flatten(1).sum(1) if len(scale) > 1 else slope.sum()[None]
    expected = scale * slopes / math.sqrt(value[0].numel() * quantizer.high)
    torch.testing.assert_close(quantizer.log_ratio.grad, expected, rtol=1e-4, atol=1e-4)


def test_a_scale_is_set_exactly_and_learned_from_there() -> None:
    quantizer = WeightQuantizer(4, 3)
    quantizer.set_scale(torch.tensor([0.1, 0.2, 0.3]))
    assert torch.equal(quantizer.scale, torch.tensor([0.1, 0.2, 0.3]))
    quantizer.log_ratio.data.fill_(math.log(2.0))
    torch.testing.assert_close(quantizer.scale, torch.tensor([0.2, 0.4, 0.6]))
    quantizer.log_ratio.data.fill_(-100.0)
    assert torch.equal(quantizer.scale, torch.full((3,), SMALLEST_SCALE))


def test_half_is_half_precision_with_a_straight_gradient() -> None:
    value = torch.tensor([0.1, 1.0, 2049.0, 1e-7, 2.5e-8, 0.0, -3.3], requires_grad=True)
    rounded = Half()(value)
    assert torch.equal(rounded, value.half().float())
    rounded.sum().backward()
    assert torch.equal(value.grad, torch.ones(7))


class MeanMagnitude(nn.Module):
    """The scales that Brevitas is to use: the mean magnitude of each output channel."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight.detach().abs().mean((1, 2, 3), keepdim=True)


def test_signs_are_those_of_brevitas_and_the_gradient_is_straight() -> None:
    torch.manual_seed(0)
    weight, upstream = torch.randn(5, 3, 3, 3, requires_grad=True), torch.randn(5, 3, 3, 3)
    found = SignQuantizer()(weight)
    (found * upstream).sum().backward()
    expected, *_ = BinaryQuant(scaling_impl=MeanMagnitude())(weight)
    torch.testing.assert_close(found, expected)
    assert torch.equal(weight.grad, upstream)


def test_signs_by_hand_where_zeros_are_pruned() -> None:
    weight = torch.tensor([[1.0, -2.0, 0.0, 6.0], [0.0, 0.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0]])
    quantizer = SignQuantizer()
    scale = quantizer.scale_of(weight)
    assert scale.tolist() == [3.0, 0.5, SMALLEST_SCALE]
    expected = [[3.0, -3.0, 0.0, 3.0], [0.0, 0.0, 0.0, -0.5], [0.0, 0.0, 0.0, 0.0]]
    assert quantizer(weight).tolist() == expected
    assert quantizer.integers(weight, scale).tolist()[0] == [1.0, -1.0, 0.0, 1.0]
    assert not list(quantizer.parameters())
    assert not quantizer.state_dict()


def test_signs_with_a_scale_stay_what_they_are() -> None:
    """As when stored tensors are installed."""
    torch.manual_seed(0)
    scale = (torch.rand(4) * 0.1).half().float()
    weight = torch.randn(4, 512, 3, 3).sign() * scale[:, None, None, None]
    assert torch.equal(SignQuantizer()(weight), weight)


def brute_force(image: Tensor, bits: int, *, signed: bool) -> Tensor:
    """One image, its numbers one by one."""
    values = image.flatten().tolist()
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    scale = max(max(map(abs, values)) / (0.999 * high), SMALLEST_SCALE)
    return torch.tensor([round(value / scale) * scale for value in values]).view_as(image)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 7)], ids=["images", "rows"])
def test_dynamic_scales_are_those_of_each_image_alone(
    bits: int, signed: bool, shape: tuple[int, ...]
) -> None:
    torch.manual_seed(bits)
    images = torch.randn(shape) * by_row(
        torch.tensor([1e-3, 0.1, 1.0, 30.0, 1e-7]), torch.empty(shape)
    )
    images = images if signed else images.relu()
    quantizer = DynamicInputQuantizer(bits, signed=signed)
    found = quantizer(images)
    expected = torch.stack([brute_force(image, bits, signed=signed) for image in images])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    assert torch.equal(torch.cat([quantizer(image[None]) for image in images]), found)
    assert not quantizer.state_dict()


def test_dynamic_integers_are_in_range_and_the_gradient_is_straight() -> None:
    torch.manual_seed(0)
    quantizer = DynamicInputQuantizer(3, signed=True)
    images = torch.randn(4, 50, requires_grad=True)
    rounded = quantizer(images)
    upstream = torch.randn(4, 50)
    (rounded * upstream).sum().backward()
    assert torch.equal(images.grad, upstream)
    scale = images.detach().abs().amax(1, keepdim=True) / (0.999 * 3)
    integers = (rounded / scale).detach()
    torch.testing.assert_close(integers, integers.round())
    assert (quantizer.low, quantizer.high) == (-4, 3)
    assert integers.abs().amax(1).round().tolist() == [3.0] * 4
    assert torch.equal(quantizer(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_inputs_between_two_steps_are_rounded_alike_however_a_sum_was_rounded() -> None:
    quantizer = InputQuantizer(4, signed=True).eval()
    quantizer.set_scale(torch.tensor([0.75]))
    steps = torch.arange(-7, 7) + 0.5
    for error in (-1e-6, 0.0, 1e-6):
        found = quantizer(steps * 0.75 * (1 + error))
        torch.testing.assert_close(found, steps.trunc() * 0.75, rtol=0, atol=0)
