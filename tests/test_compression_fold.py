"""Folding norms leaves what is computed as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from micronet_search import build
from micronet_search.compression.factorization import factorize
from micronet_search.compression.graph import affine, fold
from micronet_search.compression.quantization import calibrate, insert
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import FactorizationKind
from micronet_search.network.precision import layers_of


def candidate(bottleneck: int, **quantization: Any) -> Candidate:
    return Candidate.model_validate(
        {
            "network": {
                "family": "densenet",
                "stem": {"width": 8},
                "growth_rate": 4,
                "layers": [2, 1],
                "bottleneck": bottleneck,
            },
            "training": {"epochs": 1, "learning_rate": 0.1},
            "quantization": quantization,
        }
    )


def trained(network: nn.Module) -> nn.Module:
    """As if trained: norms with values that do something."""
    torch.manual_seed(0)
    for norm in norms(network):
        norm.weight.data.uniform_(-2.0, 2.0)
        norm.bias.data.normal_()
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 3.0)
    return network.eval()


def norms(network: nn.Module) -> list[nn.BatchNorm2d]:
    return [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]


def test_affine_is_the_norm() -> None:
    norm = nn.BatchNorm2d(3)
    trained(norm)
    image = torch.randn(2, 3, 4, 4)
    factor, summand = affine(norm)
    by_hand = image * factor[:, None, None] + summand[:, None, None]
    torch.testing.assert_close(by_hand, norm(image))


@pytest.mark.parametrize(
    ("bottleneck", "weight_bits", "folded"),
    [
        pytest.param(2, 8, 3, id="one-for-each-bottleneck"),
        pytest.param(0, 8, 0, id="no-bottleneck"),
        pytest.param(2, 16, 0, id="half-precision-keeps-them"),
    ],
)
def test_folding_changes_no_output(bottleneck: int, weight_bits: int, folded: int) -> None:
    asked = candidate(bottleneck, weight_bits=weight_bits, activation_bits=8)
    network = trained(build.network(asked))
    image = torch.randn(4, 3, 16, 16)
    expected, before = network(image), len(norms(network))
    fold(network, build.plan(asked, network))
    torch.testing.assert_close(network(image), expected, rtol=1e-5, atol=1e-5)
    assert before - len(norms(network)) == folded


RESNET = {"family": "resnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1}
EFFICIENTNET = {"family": "efficientnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1}


@pytest.mark.parametrize(
    ("network", "folded"),
    [
        # the stem's, two in each block, and the projection's
        pytest.param(RESNET, 6, id="resnet"),
        pytest.param(RESNET | {"convolution": "separable"}, 10, id="separable-resnet"),
        # the stem's, one after each pair of halves, and the projection's
        pytest.param(
            RESNET | {"convolution": "separable", "between": "activation"}, 6, id="none-between"
        ),
        pytest.param(
            RESNET | {"convolution": "separable", "between": "norm"}, 10, id="norms-alone"
        ),
        # the stem's and three in each block
        pytest.param(EFFICIENTNET | {"squeeze": 0.5}, 7, id="efficientnet"),
    ],
)
@pytest.mark.parametrize("kind", [None, "svd", "tucker"])
def test_every_norm_folds_where_each_follows_a_convolution(
    network: dict[str, Any], folded: int, kind: FactorizationKind | None
) -> None:
    """Of a product, it is the last factor."""
    asked = candidate(0, weight_bits=1, activation_bits=8)
    asked = Candidate.model_validate(asked.model_dump() | {"network": network})
    plain = build.network(asked)
    if kind is not None:
        factorize(plain, kind, 0.3)
    trained(plain)
    image = torch.randn(4, 3, 16, 16)
    expected = plain(image)
    assert len(norms(plain)) == folded
    fold(plain, build.plan(asked, plain))
    torch.testing.assert_close(plain(image), expected, rtol=1e-4, atol=1e-4)
    assert not norms(plain)


@pytest.mark.parametrize(
    ("between", "biased"),
    [("norm-activation", True), ("norm", True), ("activation", False), ("nothing", False)],
)
def test_a_depthwise_half_has_a_bias_where_it_has_a_norm(between: str, biased: bool) -> None:
    tree = candidate(0, weight_bits=4, activation_bits=4).model_dump()
    tree["network"] = RESNET | {"convolution": "separable", "between": between}
    names = build.layout(Candidate.model_validate(tree)).keys()
    depthwise = {name.rpartition(".")[0] for name in names if ".depthwise." in name}
    assert len(depthwise) == 4
    assert {name for name in depthwise if f"{name}.bias" in names} == (
        depthwise if biased else set()
    )
    assert all(f"{name.replace('depthwise', 'pointwise')}.bias" in names for name in depthwise)


def test_a_bias_that_was_there_is_folded_too() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Linear(6, 4))
    trained(network)
    image = torch.randn(2, 2, 8, 8)
    expected = network(image)
    widths = build.precision.plan(
        candidate(0, weight_bits=4, activation_bits=4).quantization, ["0", "3"]
    )
    fold(network, widths)
    assert isinstance(network[1], nn.Identity)
    torch.testing.assert_close(network(image), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weight_bits", [1, 4, 8])
def test_norms_fold_into_the_scales_of_quantized_weights(weight_bits: int) -> None:
    """The integers stay, but for those whose sign a negative factor changes."""
    asked = candidate(0, weight_bits=weight_bits, activation_bits=8)
    asked = Candidate.model_validate(asked.model_dump() | {"network": RESNET})
    network = trained(build.network(asked))
    for norm in norms(network):
        norm.weight.data.abs_().clamp_(min=0.5)  # no scale is below the smallest
    widths, image = build.plan(asked, network), torch.randn(4, 3, 16, 16)
    insert(network, widths)
    calibrate(network, [image])
    expected, before = network(image), integers(network)
    fold(network, widths)
    torch.testing.assert_close(network(image), expected, rtol=1e-4, atol=1e-4)
    assert not norms(network)
    for name, found in integers(network).items():
        # what lies between two integers may go to the other one
        changed = (before[name] - found).abs()
        assert changed.max() <= 1, name
        assert changed.mean() < 0.002, name


def test_a_negative_factor_changes_the_sign_of_the_integers() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, (1, 4), bias=False), nn.BatchNorm2d(1))
    network[0].weight.data = torch.tensor([-8.0, -3.0, 2.0, 7.0]).view(1, 1, 1, 4) / 16
    network[1].weight.data.fill_(-2.0)
    widths = build.precision.plan(
        candidate(0, weight_bits=4, activation_bits=4).quantization, ["0"]
    )
    insert(network, widths)
    network[0].weight_quantizer.set_scale(torch.tensor([1 / 16]))
    fold(network.eval(), widths)
    # the least integer has no counterpart
    assert integers(network)["0"].flatten().tolist() == [7, 3, -2, -7]
    assert network[0].weight_quantizer.scale.item() == pytest.approx(1 / 8, rel=1e-4)


def integers(network: nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: layer.weight_quantizer.integers(
            layer.weight, layer.weight_quantizer.scale_of(layer.weight)
        )
        for name, layer in layers_of(network).items()
    }
