"""DenseNets: published parameter counts, and that all groups build and run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from candidates import STEMS
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from micronet_search.config.network import DenseNet
from micronet_search.network import family


def config(**changes: Any) -> DenseNet:
    settings = {"family": "densenet", "stem": {"width": 8}, "growth_rate": 4, "layers": [1]}
    return DenseNet.model_validate(settings | changes)


def published(depth: int, growth_rate: int, bottleneck: int) -> DenseNet:
    layers = (depth - 4) // (6 if bottleneck else 3)
    return config(
        stem={"width": 2 * growth_rate},
        growth_rate=growth_rate,
        layers=[layers] * 3,
        bottleneck=bottleneck,
    )


def built_on_meta(network: DenseNet, classes: int = 10) -> nn.Sequential:
    with torch.device("meta"):
        return family.build(network, 3, classes)


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        pytest.param(published(40, 12, 0), 599_050, id="densenet-40-12"),
        pytest.param(published(40, 12, 4), 176_122, id="densenet-bc-40-12"),
        pytest.param(published(40, 24, 4), 690_346, id="densenet-bc-40-24"),
        pytest.param(published(100, 12, 4), 769_162, id="densenet-bc-100-12"),
        pytest.param(published(190, 40, 4), 25_624_430, id="densenet-bc-190-40"),
        pytest.param(
            config(
                stem={"width": 16}, growth_rate=12, layers=[12] * 3, bottleneck=0, compression=1.0
            ),
            1_019_722,
            id="densenet-40-12-of-huang",
        ),
    ],
)
def test_parameters_are_the_published_ones(network: DenseNet, parameters: int) -> None:
    assert sum(p.numel() for p in built_on_meta(network).parameters()) == parameters


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # norm of 8, 8 filters of 3x3 and their norm, 8 to 4 channels
        pytest.param({}, 16 + 8 * 9 + 16 + 8 * 4, id="whole"),
        pytest.param({"groups": 2}, 16 + 8 * 9 + 16 + 2 * 4 * 2, id="grouped"),
        # norm of 8, 8 to 8 channels, and then as above
        pytest.param({"bottleneck": 2}, 16 + 64 + 16 + 8 * 9 + 16 + 8 * 4, id="bottleneck"),
    ],
)
def test_parameters_of_separable_convolutions_by_hand(
    changes: dict[str, Any], expected: int
) -> None:
    network = config(**({"bottleneck": 0, "convolution": "separable"} | changes))
    rest = 27 * 8 + 24 + 12 * 10 + 10  # stem, last norm, classifier
    assert sum(p.numel() for p in built_on_meta(network).parameters()) == expected + rest


@st.composite
def networks(draw: st.DrawFn) -> DenseNet:
    blocks = draw(st.integers(1, 3))

    def each(least: int, most: int) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=blocks, max_size=blocks))

    return config(
        stem={"width": draw(st.integers(1, 12))} | draw(st.sampled_from(STEMS)),
        growth_rate=draw(st.integers(1, 8)),
        layers=each(1, 2),
        groups=each(1, 4),
        pointwise_groups=each(1, 4),
        bottleneck=draw(st.integers(0, 3)),
        compression=draw(st.floats(0.05, 1.0)),
        convolution=draw(st.sampled_from(["plain", "separable"])),
        between=draw(st.sampled_from(["norm-activation", "norm", "activation", "nothing"])),
    )


@settings(max_examples=60)
@given(networks(), st.integers(1, 4), st.integers(2, 7))
def test_any_widths_and_groups_run(network: DenseNet, channels: int, classes: int) -> None:
    built = family.build(network, channels, classes)
    output = built(torch.zeros(2, channels, 16, 17))
    assert output.shape == (2, classes)
    for block, layers in enumerate(built.children()):
        for conv in layers.modules():
            if isinstance(conv, nn.Conv2d) and block:
                assert conv.in_channels % conv.groups == conv.out_channels % conv.groups == 0


@settings(max_examples=30)
@given(networks())
def test_widths_survive_the_way_through_a_file(network: DenseNet) -> None:
    assert DenseNet.model_validate(network.model_dump(mode="json")) == network


def test_groups_are_where_the_configuration_puts_them() -> None:
    network = config(
        stem={"width": 12}, layers=[1, 1], groups=[2, 4], pointwise_groups=[3, 1], bottleneck=2
    )
    convs = {n: m for n, m in built_on_meta(network).named_modules() if isinstance(m, nn.Conv2d)}
    assert {name: conv.groups for name, conv in convs.items()} == {
        "stem": 1,
        "block1.0.bottleneck.2": 3,
        "block1.0.conv": 2,
        "block1.transition.2": 3,
        "block2.0.bottleneck.2": 1,
        "block2.0.conv": 4,
    }


def test_a_transition_belongs_to_the_block_before_it() -> None:
    built = built_on_meta(config(layers=[1, 2, 1]))
    parts = {name: [n for n, _ in part.named_children()] for name, part in built.named_children()}
    assert parts["block1"] == ["0", "transition"]
    assert parts["block2"] == ["0", "1", "transition"]
    assert parts["block3"] == ["0"]


def test_a_layer_keeps_the_channels_that_enter_it() -> None:
    network = family.build(config(layers=[2]), 3, 10).eval()
    image = torch.randn(1, 8, 4, 4)
    block = network.get_submodule("block1")
    assert block(image).shape == (1, 16, 4, 4)
    assert torch.equal(block(image)[:, :8], image)
