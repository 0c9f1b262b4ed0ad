"""ResNets: published counts, torchvision's outputs, and counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from candidates import STEMS
from hypothesis import strategies as st
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck

from micronet_search.config.network import ResNet
from micronet_search.network import family


def config(**changes: Any) -> ResNet:
    return ResNet.model_validate(
        {"family": "resnet", "stem": {"width": 4}, "widths": [4], "layers": 1} | changes
    )


def parameters(network: ResNet, channels: int = 3, classes: int = 10) -> int:
    with torch.device("meta"):
        built = family.build(network, channels, classes)
    return sum(p.numel() for p in built.parameters())


@st.composite
def resnets(draw: st.DrawFn) -> ResNet:
    blocks = draw(st.integers(1, 3))

    def each(least: int, most: int) -> list[int]:
        return draw(st.lists(st.integers(least, most), min_size=blocks, max_size=blocks))

    return config(
        stem={"width": draw(st.integers(1, 9))} | draw(st.sampled_from(STEMS)),
        widths=each(1, 9),
        layers=each(1, 2),
        layer=draw(st.sampled_from(["basic", "bottleneck"])),
        groups=each(1, 4),
        convolution=draw(st.sampled_from(["plain", "separable"])),
        between=draw(st.sampled_from(["norm-activation", "norm", "activation", "nothing"])),
    )


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param(
            config(stem={"width": 64}, widths=[64, 128, 256, 512], layers=2),
            11_173_962,
            id="resnet-18",
        ),
        # 269,722 with the paper's shortcuts without weights; the two projections with their norms
        # add 16 x 32 + 64 and 32 x 64 + 128
        pytest.param(
            config(stem={"width": 16}, widths=[16, 32, 64], layers=3), 272_474, id="resnet-20"
        ),
    ],
)
def test_parameters_are_the_published_ones(network: ResNet, expected: int) -> None:
    assert parameters(network) == expected


def test_resnet_10_has_ten_layers_with_weights_on_the_main_path() -> None:
    network = config(stem={"width": 8}, widths=[8, 16, 24, 32])
    with torch.device("meta"):
        built = family.build(network, 3, 10)
    weighted = [n for n, m in built.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len([name for name in weighted if ".shortcut." not in name]) == 10
    convolutions = [
        3 * 8 * 9,
        *(8 * 8 * 9, 8 * 8 * 9),
        *(8 * 16 * 9, 16 * 16 * 9, 8 * 16),  # the last one in each row is the projection
        *(16 * 24 * 9, 24 * 24 * 9, 16 * 24),
        *(24 * 32 * 9, 32 * 32 * 9, 24 * 32),
    ]
    norms = 2 * (8 * 3 + 16 * 3 + 24 * 3 + 32 * 3)
    assert parameters(network) == sum(convolutions) + norms + 32 * 10 + 10


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        # stem; two 3x3 of 2 groups of 2 channels; norms; classifier
        pytest.param(
            {"groups": 2}, 27 * 4 + 2 * (2 * 2 * 2 * 9) + 3 * 8 + 4 * 10 + 10, id="grouped"
        ),
        # two of: 4 filters of 3x3, their norm, 4 to 4 channels
        pytest.param(
            {"convolution": "separable"},
            27 * 4 + 2 * (4 * 9 + 8 + 16) + 3 * 8 + 4 * 10 + 10,
            id="separable",
        ),
        pytest.param(
            {"convolution": "separable", "groups": 2},
            27 * 4 + 2 * (4 * 9 + 8 + 2 * 2 * 2) + 3 * 8 + 4 * 10 + 10,
            id="separable-grouped",
        ),
        pytest.param(
            {"convolution": "separable", "between": "activation"},
            27 * 4 + 2 * (4 * 9 + 16) + 3 * 8 + 4 * 10 + 10,
            id="separable-without-norms-between",
        ),
        # 4 to 4, 3x3 of 2 groups, 4 to 16, the projection 4 to 16; norms of 4, 4, 4, 16 and 16
        pytest.param(
            {"layer": "bottleneck", "groups": 2},
            27 * 4 + 16 + 2 * 2 * 2 * 9 + 64 + 64 + 2 * (3 * 4 + 2 * 16) + 16 * 10 + 10,
            id="bottleneck-grouped",
        ),
    ],
)
def test_parameters_by_hand(changes: dict[str, Any], expected: int) -> None:
    assert parameters(config(**changes)) == expected


@pytest.mark.parametrize(
    ("layer", "theirs"),
    [
        pytest.param("basic", BasicBlock, id="resnet-18"),
        pytest.param("bottleneck", Bottleneck, id="resnet-50"),
    ],
)
def test_outputs_are_those_of_torchvision(
    layer: str, theirs: type[BasicBlock | Bottleneck]
) -> None:
    """Torchvision's own, with the stem that small images have."""
    torch.manual_seed(0)
    layers = [2, 2, 2, 2] if layer == "basic" else [3, 4, 6, 3]
    reference = torchvision.models.ResNet(theirs, layers, num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    network = config(stem={"width": 64}, widths=[64, 128, 256, 512], layers=layers, layer=layer)
    built = family.build(network, 3, 10)
    names = built.state_dict().keys()
    built.load_state_dict(dict(zip(names, reference.state_dict().values(), strict=True)))
    image = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(built.eval()(image), reference.eval()(image))


def test_the_image_is_halved_between_blocks() -> None:
    built = family.build(config(stem={"width": 4, "stride": 2}, widths=[4, 5, 6], layers=2), 1, 3)
    image, sides = torch.zeros(1, 1, 16, 16), []
    for name, part in list(built.named_children())[:4]:
        image = part(image)
        sides.append((name, tuple(image.shape[1:])))
    assert sides == [
        ("stem", (4, 8, 8)),
        ("block1", (4, 8, 8)),
        ("block2", (5, 4, 4)),
        ("block3", (6, 2, 2)),
    ]
