"""The shared layers, against counts by hand and torchvision's own."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

from micronet_search.config.network import Between, Convolution, Stem
from micronet_search.network.layers import (
    ACTIVATIONS,
    IDENTITY,
    Activation,
    Add,
    GlobalMean,
    Residual,
    Scale,
    convolution,
    initialise,
    normed,
    squeeze_excite,
    stem,
)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("channels", "width", "kernel", "groups", "kind", "expected"),
    [
        pytest.param(6, 9, 3, 1, "plain", 6 * 9 * 9, id="plain"),
        # each of 3 groups: 2 channels to 3
        pytest.param(6, 9, 3, 3, "plain", 3 * 2 * 3 * 9, id="grouped"),
        # a 3x3 filter, a norm's factor and summand for each channel, then 6 to 9
        pytest.param(6, 9, 3, 1, "separable", 6 * 9 + 2 * 6 + 6 * 9, id="separable"),
        pytest.param(6, 9, 5, 3, "separable", 6 * 25 + 2 * 6 + 3 * 2 * 3, id="separable-grouped"),
        pytest.param(8, 4, 7, 4, "separable", 8 * 49 + 2 * 8 + 4 * 2 * 1, id="separable-narrow"),
        pytest.param(4, 4, 1, 2, "separable", 4 + 2 * 4 + 2 * 2 * 2, id="separable-1x1"),
    ],
)
def test_parameters_of_a_convolution_by_hand(
    channels: int, width: int, kernel: int, groups: int, kind: Convolution, expected: int
) -> None:
    described = convolution(channels, width, kernel, 1, groups, kind)
    assert parameters(described.module()) == expected


@pytest.mark.parametrize(
    ("between", "expected", "kinds"),
    [
        ("norm-activation", 6 * 9 + 2 * 6 + 6 * 9, [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Conv2d]),
        ("norm", 6 * 9 + 2 * 6 + 6 * 9, [nn.Conv2d, nn.BatchNorm2d, nn.Conv2d]),
        ("activation", 6 * 9 + 6 * 9, [nn.Conv2d, nn.ReLU, nn.Conv2d]),
        ("nothing", 6 * 9 + 6 * 9, [nn.Conv2d, nn.Conv2d]),
    ],
)
def test_what_stands_between_the_halves_of_a_separable_convolution(
    between: Between, expected: int, kinds: list[type[nn.Module]]
) -> None:
    built = convolution(6, 9, 3, kind="separable", between=between).module()
    assert parameters(built) == expected
    assert [type(module) for module in built.children()] == kinds


@pytest.mark.parametrize("kind", ["plain", "separable"])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize(("stride", "side"), [(1, 9), (2, 5)])
def test_a_convolution_halves_the_image_by_its_stride_alone(
    kernel: int, kind: Convolution, stride: int, side: int
) -> None:
    built = convolution(4, 6, kernel, stride, 2, kind).module()
    output = built(torch.zeros(2, 4, 9, 9))
    assert output.shape == (2, 6, side, side)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [2, 4])
def test_a_stem_leaves_a_pixel_for_each_of_its_steps(kernel: int, stride: int) -> None:
    built = stem(Stem(width=5, kernel=kernel, stride=stride), 3).module()
    for side in (stride, 8, 32):
        assert built(torch.zeros(1, 3, side, side)).shape == (1, 5, side // stride, side // stride)


@pytest.mark.parametrize(
    ("activation", "gate"),
    [("relu", nn.Sigmoid), ("silu", nn.Sigmoid), ("hard-swish", nn.Hardsigmoid)],
)
def test_squeeze_and_excite_is_that_of_torchvision(
    activation: Activation, gate: type[nn.Module]
) -> None:
    torch.manual_seed(0)
    image = torch.randn(3, 8, 5, 5)
    ours = squeeze_excite(8, 2, activation).module()
    theirs = torchvision.ops.SqueezeExcitation(
        8, 2, activation=ACTIVATIONS[activation], scale_activation=gate
    )
    names = theirs.state_dict().keys()
    theirs.load_state_dict(dict(zip(names, ours.state_dict().values(), strict=True)))
    assert torch.equal(ours(image), theirs(image))


def test_a_residual_sum_adds_the_shortcut_and_then_activates() -> None:
    double = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.constant_(double.weight, 2.0)
    image = torch.tensor([-1.0, 3.0]).reshape(1, 1, 1, 2)
    output = Residual(body=double, shortcut=nn.Identity(), add=Add(), activation=nn.ReLU())(image)
    assert output.flatten().tolist() == [0.0, 9.0]


def test_nothing_works_in_place() -> None:
    image = torch.randn(2, 4, 3, 3)
    kept = image.clone()
    for module in (Add(), Scale()):
        module(image, image)
    for activation in ACTIVATIONS:
        normed(IDENTITY, 4, activation).module()(image)
        ACTIVATIONS[activation]()(image)
    assert torch.equal(image, kept)


def test_convolutions_begin_with_the_variance_of_he() -> None:
    torch.manual_seed(0)
    grouped, biased, linear = (
        convolution(64, 64, 3, groups=2).module(),
        nn.Conv2d(8, 8, 1),
        nn.Linear(4, 3),
    )
    initialise(nn.Sequential(grouped, biased, linear))
    weight = grouped.get_parameter("weight").detach()
    assert weight.var() == pytest.approx(2 / (32 * 9), rel=0.05)
    assert not biased.get_parameter("bias").any()
    assert not linear.bias.any()


def test_global_mean_is_torchs_with_a_gradient_whose_channels_are_last() -> None:
    torch.manual_seed(0)
    image = torch.randn(3, 5, 4, 6).to(memory_format=torch.channels_last).requires_grad_()
    given = torch.randn(3, 5, 1, 1)
    found, expected = GlobalMean()(image), nn.AdaptiveAvgPool2d(1)(image)
    assert torch.equal(found, expected)
    (ours,), (theirs,) = (torch.autograd.grad(mean, image, given) for mean in (found, expected))
    assert torch.equal(ours, theirs)
    assert ours.is_contiguous(memory_format=torch.channels_last)
