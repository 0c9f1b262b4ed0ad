"""The fake quantizers against Brevitas's and against LSQ's formulas, and how scales are found."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from brevitas.core.function_wrapper import Identity, RoundSte, TensorClamp
from brevitas.core.quant import IntQuant
from torch import Tensor, nn

from micronet_search.compression import quantize
from micronet_search.compression.quantize import (
    SMALLEST_SCALE,
    Half,
    InputQuantizer,
    Quantizer,
    WeightQuantizer,
    best_scale,
    bounds,
)
from micronet_search.config.compression import Quantization
from micronet_search.score.precision import layers_of, plan

BITS = (2, 3, 4, 8)


@pytest.mark.parametrize(
    ("bits", "signed", "expected"),
    [
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


def squared_error(values: Tensor, scale: Tensor, low: int, high: int) -> Tensor:
    rounded = (values / scale[:, None]).round().clamp(low, high) * scale[:, None]
    return (rounded - values).square().sum(1)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
def test_best_scale_is_nearly_that_of_a_fine_grid(bits: int, signed: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(4, 500) * torch.tensor([[0.01], [0.1], [1.0], [30.0]])
    values = values if signed else values.abs()
    low, high = bounds(bits, signed=signed)
    found = squared_error(values, best_scale(values, low, high), low, high)
    largest = values.abs().amax(1)
    finer = [
        squared_error(values, largest / high * part / 4000, low, high) for part in range(1, 4001)
    ]
    assert bool((found <= 1.1 * torch.stack(finer).amin(0)).all())


def test_best_scale_of_zeros_is_the_smallest() -> None:
    found = best_scale(torch.zeros(2, 5), -8, 7)
    assert torch.equal(found, torch.full((2,), SMALLEST_SCALE))


def test_insert_keeps_the_parameters_and_folds() -> None:
    network = little_network()
    weight = network[2].weight
    quantize.insert(network, planned(network, 8))
    assert network[2].weight is weight
    assert isinstance(network[0].input_quantizer, nn.Identity)
    assert isinstance(network[2].input_quantizer, InputQuantizer)
    assert network[2].input_quantizer.low == 0
    assert isinstance(network[3], nn.Identity)
    assert isinstance(network[6].input_quantizer, InputQuantizer)


def test_insert_leaves_single_precision_alone() -> None:
    network = little_network()
    quantize.insert(network, plan(None, layers_of(network)))
    assert [type(module) for module in network] == [type(m) for m in little_network()]


def little_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 4),
    )


def planned(network: nn.Module, bits: int) -> quantize.Plan:
    quantization = Quantization.model_validate({"weight_bits": bits, "activation_bits": bits})
    return plan(quantization, layers_of(network))


def test_calibration_keeps_what_eight_bits_can() -> None:
    network = little_network().eval()
    images = torch.randn(256, 1, 8, 8)
    expected = network(images)
    quantize.insert(network, planned(network, 8))
    quantize.calibrate(network, images.split(64))
    found = network.eval()(images)
    assert (found - expected).norm() < 0.02 * expected.norm()
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.97


def test_calibration_sees_every_pixel_of_a_row() -> None:
    """The images are bright in their last column alone."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 2, 1))
    network[0].weight.data.fill_(1.0)
    images = torch.zeros(512, 1, 16, 16)
    images[..., -1] = 5.0
    quantize.insert(network, planned(network, 8))
    quantize.calibrate(network, [images])
    assert network[2].input_quantizer.scale.item() == pytest.approx(5.0 / 255, rel=0.05)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_eight_bits_survive_a_high_learning_rate(optimizer: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 4)
    images, targets = torch.randn(64, 16), torch.randn(64, 4)
    network = nn.Sequential(layer)
    quantize.insert(network, planned(network, 8))
    quantize.calibrate(network, [images])
    steps = optimizer(network.parameters(), lr=0.05)
    for _ in range(50):
        steps.zero_grad()
        (network(images) - targets).square().mean().backward()
        steps.step()
    assert bool((network[0].weight_quantizer.scale > 2 * SMALLEST_SCALE).all())


def test_scales_of_eight_bits_survive_the_steps_of_adam() -> None:
    """Learned as they are, they would fall to the smallest scale within three of these steps."""
    torch.manual_seed(0)
    weight = torch.randn(4, 9) * 0.1
    quantizer = WeightQuantizer(8, 4)
    start = best_scale(weight, quantizer.low, quantizer.high)
    quantizer.set_scale(start)
    optimizer = torch.optim.Adam(quantizer.parameters(), lr=0.005)
    for _ in range(20):
        optimizer.zero_grad()
        quantizer(weight).square().sum().backward()  # falls with the scale
        optimizer.step()
    assert start.max() < 0.005
    assert torch.all(quantizer.scale > 0.85 * start)
