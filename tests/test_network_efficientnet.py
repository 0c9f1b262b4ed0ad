"""EfficientNets: torchvision's parameters, MACs and outputs, and counts by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from candidates import STEMS
from counting import count
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.efficientnet import FusedMBConvConfig

from micronet_search.config.network import EfficientNet, Input
from micronet_search.network import efficientnet, family
from micronet_search.network.precision import layers_of, plan

B0 = {
    "stem": {"width": 32, "stride": 2},
    "widths": [16, 24, 40, 80, 112, 192, 320],
    "layers": [1, 2, 2, 3, 3, 4, 1],
    "strides": [1, 2, 2, 2, 1, 2, 1],
    "kernels": [3, 3, 5, 3, 5, 5, 3],
    "expansions": [1, 6, 6, 6, 6, 6, 6],
    "squeeze": 0.25,
    "activation": "silu",
    "head": 1280,
}
"""The published EfficientNet-B0 (Tan and Le, 2019, table 1)."""


def config(**changes: Any) -> EfficientNet:
    small = {"family": "efficientnet", "stem": {"width": 4}, "widths": [4], "layers": 1}
    return EfficientNet.model_validate(small | changes)


def built_on_meta(network: EfficientNet, classes: int = 10) -> nn.Sequential:
    with torch.device("meta"):
        return family.build(network, 3, classes)


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@st.composite
def efficientnets(draw: st.DrawFn) -> EfficientNet:
    blocks = draw(st.integers(1, 3))

    def each(values: st.SearchStrategy[Any]) -> list[Any]:
        return draw(st.lists(values, min_size=blocks, max_size=blocks))

    return config(
        stem={"width": draw(st.integers(1, 9))} | draw(st.sampled_from(STEMS)),
        widths=each(st.integers(1, 9)),
        layers=each(st.integers(1, 2)),
        strides=each(st.sampled_from([1, 2])) if blocks < 3 else 1,
        kernels=each(st.sampled_from([3, 5, 7])),
        expansions=each(st.integers(1, 3)),
        squeeze=each(st.one_of(st.just(0.0), st.floats(0.0, 1.0))),
        groups=each(st.integers(1, 4)),
        convolution=draw(st.sampled_from(["plain", "separable"])),
        between=draw(st.sampled_from(["norm-activation", "norm", "activation", "nothing"])),
        activation=draw(st.sampled_from(["relu", "silu", "hard-swish"])),
        head=draw(st.integers(0, 9)),
        width_multiplier=draw(st.sampled_from([1.0, 0.5, 1.2])),
    )


@pytest.mark.parametrize(
    ("name", "width", "depth", "published"),
    [
        pytest.param("efficientnet_b0", 1.0, 1.0, 5_288_548, id="b0"),
        pytest.param("efficientnet_b1", 1.0, 1.1, 7_794_184, id="b1"),
        pytest.param("efficientnet_b2", 1.1, 1.2, 9_109_994, id="b2"),
        pytest.param("efficientnet_b3", 1.2, 1.4, 12_233_232, id="b3"),
    ],
)
def test_parameters_and_macs_are_those_of_torchvision(
    name: str, width: float, depth: float, published: int
) -> None:
    network = config(**B0, width_multiplier=width, depth_multiplier=depth)
    built = built_on_meta(network, 1000)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        reference = torchvision.models.get_model(name)
        reference.eval()(torch.zeros(1, 3, 224, 224))
    assert parameters(built) == parameters(reference) == published
    image = Input(height=224, width=224)
    cost = count(efficientnet.describe(network, 3, 1000), image, plan(None, layers_of(built)))
    assert 2 * cost.macs == counter.get_total_flops()


def loaded_from(reference: nn.Module, network: EfficientNet) -> nn.Sequential:
    """The network with the reference's tensors, whose order is the same."""
    built = family.build(network, 3, 10)
    names = built.state_dict().keys()
    built.load_state_dict(dict(zip(names, reference.state_dict().values(), strict=True)))
    return built.eval()


def test_outputs_of_b0_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    reference = torchvision.models.efficientnet_b0(num_classes=10).eval()
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded_from(reference, config(**B0))(image), reference(image))


def test_outputs_of_fused_layers_are_those_of_torchvision() -> None:
    torch.manual_seed(0)
    fused = partial(FusedMBConvConfig, kernel=3)
    reference = torchvision.models.EfficientNet(
        [
            fused(1, stride=1, input_channels=8, out_channels=8, num_layers=2),
            fused(4, stride=2, input_channels=8, out_channels=16, num_layers=2),
        ],
        dropout=0.2,
        num_classes=10,
        last_channel=24,
    ).eval()
    network = config(
        stem={"width": 8, "stride": 2},
        widths=[8, 16],
        layers=2,
        strides=[1, 2],
        expansions=[1, 4],
        convolution="plain",
        activation="silu",
        head=24,
    )
    image = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(loaded_from(reference, network)(image), reference(image))


STEM, CLASSIFIER = 27 * 4 + 2 * 4, 4 * 10 + 10


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # 4 to 12 channels, 12 filters of 5x5, 12 to 4, each with its norm
        pytest.param(
            {"expansions": 3, "kernels": 5},
            (4 * 12 + 24) + (12 * 25 + 24) + (12 * 4 + 8),
            id="separable",
        ),
        # the same 1x1 convolutions in 2 groups: half of their weights
        pytest.param(
            {"expansions": 3, "kernels": 5, "groups": 2},
            (2 * 2 * 6 + 24) + (12 * 25 + 24) + (2 * 6 * 2 + 8),
            id="grouped",
        ),
        pytest.param({"expansions": 1}, (4 * 9 + 8) + (4 * 4 + 8), id="nothing-to-expand"),
        pytest.param(
            {"expansions": 1, "between": "norm"}, (4 * 9 + 8) + (4 * 4 + 8), id="norm-between"
        ),
        pytest.param(
            {"expansions": 3, "between": "nothing"},
            (4 * 12 + 24) + 12 * 9 + (12 * 4 + 8),
            id="nothing-between",
        ),
        # 4 to 8 channels by 3x3, 8 to 4 in 2 groups
        pytest.param(
            {"expansions": 2, "convolution": "plain", "groups": 2},
            (4 * 8 * 9 + 16) + (2 * 4 * 2 + 8),
            id="fused-grouped",
        ),
        pytest.param({"expansions": 1, "convolution": "plain"}, 4 * 4 * 9 + 8, id="fused-alone"),
        # half of the 4 channels that enter: 8 to 2 and back, with biases
        pytest.param(
            {"expansions": 2, "squeeze": 0.5},
            (4 * 8 + 16) + (8 * 9 + 16) + (8 * 2 + 2 + 2 * 8 + 8) + (8 * 4 + 8),
            id="squeeze",
        ),
        # never below one channel
        pytest.param(
            {"expansions": 1, "squeeze": 0.1},
            (4 * 9 + 8) + (4 + 1 + 4 + 4) + (4 * 4 + 8),
            id="least-squeeze",
        ),
        # 4 to 10 channels and their norm; the classifier reads 6 more
        pytest.param(
            {"expansions": 1, "head": 10},
            (4 * 9 + 8) + (4 * 4 + 8) + (4 * 10 + 20) + 6 * 10,
            id="head",
        ),
    ],
)
def test_parameters_by_hand(changes: dict[str, Any], expected: int) -> None:
    built = built_on_meta(config(**changes))
    assert parameters(built) == STEM + expected + CLASSIFIER


@pytest.mark.parametrize(
    ("changes", "activated"),
    [
        ({}, ["expand", "depthwise"]),
        ({"between": "nothing"}, ["expand"]),
        ({"expansions": 1}, ["depthwise"]),
        ({"expansions": 1, "between": "activation"}, ["depthwise"]),
        ({"expansions": 1, "between": "norm"}, ["project"]),
        ({"expansions": 1, "between": "nothing"}, ["project"]),
        ({"expansions": 1, "between": "nothing", "convolution": "plain"}, ["project"]),
    ],
    ids=str,
)
def test_every_layer_has_an_activation(changes: dict[str, Any], activated: list[str]) -> None:
    built = built_on_meta(config(**changes))
    found = [name.split(".")[-2] for name, m in built.named_modules() if isinstance(m, nn.ReLU)]
    assert found == ["stem", *activated]


def test_a_shortcut_is_where_the_shape_stays() -> None:
    built = built_on_meta(config(widths=[4, 6, 6], layers=2, strides=[2, 1, 1]))
    added = [name for name, _ in built.named_modules() if name.endswith(".add")]
    assert added == ["block1.1.add", "block2.1.add", "block3.0.add", "block3.1.add"]


@pytest.mark.parametrize(
    ("activation", "modules"),
    [
        ("relu", {nn.ReLU, nn.Sigmoid}),
        ("silu", {nn.SiLU, nn.Sigmoid}),
        ("hard-swish", {nn.Hardswish, nn.Hardsigmoid}),
    ],
)
def test_the_activation_is_the_one_that_is_asked_for(
    activation: str, modules: set[type[nn.Module]]
) -> None:
    built = built_on_meta(config(activation=activation, squeeze=0.5, head=8))
    every = {nn.ReLU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Hardsigmoid}
    assert {type(module) for module in built.modules()} & every == modules
