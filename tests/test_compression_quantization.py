"""Where quantizers are put, how scales are found, and that they survive being learned."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from micronet_search.compression.quantization import best_scale, calibrate, insert
from micronet_search.compression.quantizers import (
    SMALLEST_SCALE,
    DynamicInputQuantizer,
    InputQuantizer,
    SignQuantizer,
    WeightQuantizer,
    bounds,
)
from micronet_search.config.compression import Quantization
from micronet_search.network.precision import Plan, layers_of, plan

BITS = (2, 3, 4, 8)


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


def test_insert_keeps_the_parameters_and_the_norms() -> None:
    network = little_network()
    weight = network[2].weight
    insert(network, planned(network, 8))
    assert network[2].weight is weight
    assert isinstance(network[0].input_quantizer, nn.Identity)
    assert isinstance(network[2].input_quantizer, InputQuantizer)
    assert network[2].input_quantizer.low == 0
    assert isinstance(network[3], nn.BatchNorm2d)
    assert isinstance(network[6].input_quantizer, InputQuantizer)


def test_insert_of_signs_and_dynamic_inputs() -> None:
    network = little_network()
    quantization = {"weight_bits": 1, "activation_bits": 4, "mode": "dynamic"}
    widths = plan(Quantization.model_validate(quantization), layers_of(network))
    insert(network, widths)
    assert {type(layer.weight_quantizer) for layer in layers_of(network).values()} == {
        SignQuantizer
    }
    assert isinstance(network[0].input_quantizer, nn.Identity)
    found = [network[place].input_quantizer for place in (2, 6)]
    assert [type(quantizer) for quantizer in found] == [DynamicInputQuantizer] * 2
    assert [(quantizer.low, quantizer.high) for quantizer in found] == [(0, 15), (0, 15)]
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    calibrate(network, [torch.randn(4, 1, 8, 8)])
    after = network.state_dict()
    assert all(torch.equal(before[name], tensor) for name, tensor in after.items())


def test_insert_leaves_single_precision_alone() -> None:
    network = little_network()
    insert(network, plan(None, layers_of(network)))
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


def planned(network: nn.Module, bits: int) -> Plan:
    quantization = Quantization.model_validate({"weight_bits": bits, "activation_bits": bits})
    return plan(quantization, layers_of(network))


def test_calibration_keeps_what_eight_bits_can() -> None:
    network = little_network().eval()
    images = torch.randn(256, 1, 8, 8)
    expected = network(images)
    insert(network, planned(network, 8))
    calibrate(network, images.split(64))
    found = network.eval()(images)
    assert (found - expected).norm() < 0.02 * expected.norm()
    assert (found.argmax(1) == expected.argmax(1)).float().mean() > 0.97


def test_calibration_sees_every_pixel_of_a_row() -> None:
    """The images are bright in their last column alone."""
    network = nn.Sequential(nn.Conv2d(1, 1, 1, bias=False), nn.ReLU(), nn.Conv2d(1, 2, 1))
    network[0].weight.data.fill_(1.0)
    images = torch.zeros(512, 1, 16, 16)
    images[..., -1] = 5.0
    insert(network, planned(network, 8))
    calibrate(network, [images])
    assert network[2].input_quantizer.scale.item() == pytest.approx(5.0 / 255, rel=0.05)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_eight_bits_survive_a_high_learning_rate(optimizer: type[torch.optim.Optimizer]) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(16, 4)
    images, targets = torch.randn(64, 16), torch.randn(64, 4)
    network = nn.Sequential(layer)
    insert(network, planned(network, 8))
    calibrate(network, [images])
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
