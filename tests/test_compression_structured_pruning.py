"""Channels removed: which widths are left, that they are the right ones, and that all fits."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from torch import Tensor, nn

from micronet_search.compression import structured_pruning
from micronet_search.config.network import MAX_LAYERS, Input, Network
from micronet_search.network import family
from micronet_search.network.precision import layers_of

IMAGE = Input(channels=3, height=8, width=8)
STEM = {"width": 12}


def built(network: dict[str, Any], seed: int = 0) -> nn.Sequential:
    """In evaluation, as if trained: with norms that do something."""
    torch.manual_seed(seed)
    config: Network = TypeAdapter(Network).validate_python(network)
    plain = family.build(config, IMAGE.channels, classes=5)
    for norm in plain.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.weight.data.uniform_(0.5, 2.0)
            norm.bias.data.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
    return plain.eval()


def thinned(network: dict[str, Any], ratio: float, seed: int = 0) -> nn.Sequential:
    plain = built(network, seed)
    structured_pruning.thin(plain, IMAGE, ratio)
    return plain


def shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def widths(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Input channels, output channels and groups of each convolution."""
    return {
        name: (layer.in_channels, layer.out_channels, layer.groups)
        for name, layer in layers_of(network).items()
        if isinstance(layer, nn.Conv2d)
    }


def some_images() -> Tensor:
    return torch.randn(3, IMAGE.channels, IMAGE.height, IMAGE.width)


DENSENET = {"family": "densenet", "stem": STEM, "growth_rate": 6, "layers": [2, 1]}
RESNET = {"family": "resnet", "stem": STEM, "widths": [12, 24], "layers": 1}
EFFICIENTNET = {"family": "efficientnet", "stem": STEM, "widths": [12], "layers": 2}

HAND_COUNTED = [
    pytest.param(
        DENSENET | {"bottleneck": 2, "groups": [2, 3]},
        0.4,
        {
            "stem": (3, 8, 1),  # 12 - floor(4.8)
            "block1.0.bottleneck.2": (8, 8, 1),  # 12 in 2 groups of 6, 2 go from each
            "block1.0.conv": (8, 4, 2),  # 6 in 2 groups of 3, 1 goes from each
            "block1.1.bottleneck.2": (12, 8, 1),
            "block1.1.conv": (8, 4, 2),
            "block1.transition.2": (16, 8, 1),  # 12 - floor(4.8)
            "block2.0.bottleneck.2": (8, 9, 1),  # 12 in 3 groups of 4, 1 goes from each
            "block2.0.conv": (9, 6, 3),  # 6 in 3 groups of 2, none goes
        },
        id="densenet",
    ),
    pytest.param(
        DENSENET | {"bottleneck": 0, "groups": [2, 1]},
        0.5,
        {
            "stem": (3, 12, 1),  # block1.1.conv reads it beside block1.0's
            "block1.0.conv": (12, 6, 2),
            "block1.1.conv": (18, 4, 2),  # 6 in 2 groups of 3, 1 goes from each
            "block1.transition.2": (22, 6, 1),
            "block2.0.conv": (6, 3, 1),
        },
        id="densenet-whose-groups-read-layers-joined",
    ),
    pytest.param(
        DENSENET | {"bottleneck": 0, "convolution": "separable"},
        0.5,
        {
            "stem": (3, 6, 1),
            "block1.0.conv.depthwise": (6, 6, 6),
            "block1.0.conv.pointwise": (6, 3, 1),
            "block1.1.conv.depthwise": (9, 9, 9),
            "block1.1.conv.pointwise": (9, 3, 1),
            "block1.transition.2": (12, 6, 1),
            "block2.0.conv.depthwise": (6, 6, 6),
            "block2.0.conv.pointwise": (6, 3, 1),
        },
        id="densenet-of-depthwise-convolutions-that-read-layers-joined",
    ),
    pytest.param(
        DENSENET | {"layers": [1], "bottleneck": 2, "groups": [6]},
        0.5,
        {
            "stem": (3, 6, 1),
            "block1.0.bottleneck.2": (6, 6, 1),  # 12 in 6 groups of 2, 1 goes from each
            "block1.0.conv": (6, 6, 6),
        },
        id="as-many-groups-as-output-channels",
    ),
    pytest.param(
        RESNET | {"groups": [1, 4]},
        0.4,
        {
            "stem.conv": (3, 8, 1),  # 12 in 4 groups of 3, 1 goes from each
            "block1.0.body.0.conv": (8, 8, 1),  # 12 - floor(4.8)
            "block1.0.body.1.conv": (8, 8, 1),
            "block2.0.body.0.conv": (8, 16, 4),  # 24 in 4 groups of 6, 2 go from each
            "block2.0.body.1.conv": (16, 16, 4),
            "block2.0.shortcut.conv": (8, 16, 1),
        },
        id="resnet-whose-sum-is-read-by-groups",
    ),
    pytest.param(
        EFFICIENTNET | {"expansions": [2], "squeeze": [0.5], "groups": [2]},
        0.25,
        {
            "stem.conv": (3, 10, 1),  # 12 in 2 groups of 6, 1 goes from each; so from all sums
            "block1.0.body.expand.conv": (10, 18, 2),  # 24 in 2 groups of 12
            "block1.0.body.depthwise.conv": (18, 18, 18),
            "block1.0.body.squeeze.reduce": (18, 5, 1),  # 6 - floor(1.5)
            "block1.0.body.squeeze.expand": (5, 18, 1),
            "block1.0.body.project.conv": (18, 10, 2),
            "block1.1.body.expand.conv": (10, 18, 2),
            "block1.1.body.depthwise.conv": (18, 18, 18),
            "block1.1.body.squeeze.reduce": (18, 5, 1),
            "block1.1.body.squeeze.expand": (5, 18, 1),
            "block1.1.body.project.conv": (18, 10, 2),
        },
        id="efficientnet",
    ),
]


@pytest.mark.parametrize(("network", "ratio", "expected"), HAND_COUNTED)
def test_widths_counted_by_hand(
    network: dict[str, Any], ratio: float, expected: dict[str, tuple[int, ...]]
) -> None:
    assert widths(thinned(network, ratio)) == expected


def blocks(values: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=count, max_size=count)


@st.composite
def networks(draw: st.DrawFn) -> dict[str, Any]:
    """Of any family, with groups that divide what they can and blocks of one or two layers."""
    count = draw(st.integers(1, 2))
    small, groups = st.integers(1, 2), blocks(st.sampled_from([1, 2, 3, 4]), count)
    shared = {
        "stem": {"width": draw(st.integers(1, 8))},
        "convolution": draw(st.sampled_from(["plain", "separable"])),
        "groups": draw(groups),
        "layers": draw(blocks(small, count)),
    }
    widths = {"widths": draw(blocks(st.integers(1, 12), count))}
    match draw(st.sampled_from(["densenet", "resnet", "efficientnet"])):
        case "densenet":
            return shared | {
                "family": "densenet",
                "growth_rate": draw(st.integers(1, 8)),
                "bottleneck": draw(st.integers(0, 2)),
                "pointwise_groups": draw(groups),
            }
        case "resnet":
            layer = draw(st.sampled_from(["basic", "bottleneck"]))
            return shared | widths | {"family": "resnet", "layer": layer}
        case _:
            return (
                shared
                | widths
                | {
                    "family": "efficientnet",
                    "expansions": draw(blocks(st.integers(1, 3), count)),
                    "squeeze": draw(blocks(st.sampled_from([0.0, 0.3, 1.0]), count)),
                    "activation": draw(st.sampled_from(["relu", "silu", "hard-swish"])),
                    "head": draw(st.sampled_from([0, 7])),
                }
            )


RATIOS = st.floats(0.0, 1.0, exclude_max=True)


@settings(max_examples=40)
@given(networks(), RATIOS)
def test_shapes_are_those_of_the_configuration_whatever_the_weights(
    network: dict[str, Any], ratio: float
) -> None:
    first, second, third = (shapes(thinned(network, ratio, seed)) for seed in range(3))
    assert first == second == third


@settings(max_examples=40)
@given(networks(), RATIOS)
def test_channels_that_are_zero_can_be_removed(network: dict[str, Any], ratio: float) -> None:
    plain = built(network)
    chosen = structured_pruning.choose(plain, IMAGE, ratio)
    for (layer, remove_from), channels in chosen.items():
        if remove_from.__name__ == "prune_out_channels":
            for parameter in layer.parameters(recurse=False):
                parameter.data[channels] = 0.0
    images = some_images()
    with torch.no_grad():
        expected = plain(images)
    structured_pruning.remove(chosen)
    torch.testing.assert_close(plain(images), expected, rtol=1e-4, atol=1e-4)


@settings(max_examples=40)
@given(networks(), RATIOS)
def test_a_thin_network_trains_and_knows_its_shape(network: dict[str, Any], ratio: float) -> None:
    thin = thinned(network, ratio)
    thin(some_images()).square().sum().backward()
    assert all(parameter.grad is not None for parameter in thin.parameters())
    for module in thin.modules():
        if isinstance(module, nn.Conv2d):
            expected = (module.out_channels, module.in_channels // module.groups)
            assert module.weight.shape[:2] == expected
            assert module.bias is None or len(module.bias) == module.out_channels
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            parts = (module.weight, module.bias, module.running_mean, module.running_var)
            assert {len(part) for part in parts} == {module.num_features}


def test_the_smallest_go() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, 2),
    )  # fmt: skip
    network[0].weight.data = torch.tensor([5.0, 1.0, 4.0, 2.0])[:, None].repeat(1, 3)[
        ..., None, None
    ]
    network[4].weight.data.fill_(1.0)
    structured_pruning.thin(network, IMAGE, 0.5)
    assert network[0].weight[:, 0, 0, 0].tolist() == [5.0, 4.0]
    assert network[4].weight.shape == (2, 2)
    assert len(network[4].bias) == 2


def test_groups_lose_the_channels_at_the_same_places() -> None:
    """Torch-Pruning's rule, in its own example: [1, 2, 3, 4, 5, 6] in two groups."""
    network = nn.Sequential(
        nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 2, 1, groups=2), nn.Flatten(),
        nn.Linear(2 * 64, 2),
    )  # fmt: skip
    network[0].weight.data = torch.arange(1.0, 7.0)[:, None].repeat(1, 3)[..., None, None]
    network[1].weight.data.fill_(1.0)
    structured_pruning.thin(network, IMAGE, 1 / 3)
    assert network[0].weight[:, 0, 0, 0].tolist() == [2.0, 3.0, 5.0, 6.0]
    assert network[1].weight.shape == (2, 2, 1, 1)
    assert (network[1].in_channels, network[1].groups) == (4, 2)


def test_a_ratio_of_zero_changes_nothing() -> None:
    plain = built(RESNET)
    before = copy.deepcopy(plain.state_dict())
    structured_pruning.thin(plain, IMAGE, 0.0)
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_mode_statistics_and_randomness_are_left_as_they_were(training: bool) -> None:
    plain = built(EFFICIENTNET).train(training).requires_grad_(False)
    before = copy.deepcopy(plain.state_dict())
    randomness = torch.get_rng_state()
    with torch.no_grad():
        structured_pruning.thin(plain, IMAGE, 0.01)
    assert plain.training is training
    assert all(module.training is training for module in plain.modules())
    assert torch.equal(randomness, torch.get_rng_state())
    assert all(torch.equal(before[name], value) for name, value in plain.state_dict().items())
    assert all(parameter.requires_grad for parameter in plain.parameters())
    assert {type(m) for m in plain.modules()} == {type(m) for m in built(EFFICIENTNET).modules()}


@pytest.mark.slow
def test_the_longest_block_that_a_candidate_can_have_is_followed() -> None:
    longest = {"family": "densenet", "stem": STEM, "growth_rate": 2, "layers": [MAX_LAYERS]}
    found = thinned(longest | {"bottleneck": 2}, 0.5)
    assert sum(isinstance(module, nn.Conv2d) for module in found.modules()) == 2 * MAX_LAYERS + 1
    assert found(torch.zeros(1, 3, 8, 8)).shape == (1, 5)
