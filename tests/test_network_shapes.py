"""Shapes by description, against those of networks that run."""

import pytest
import torch
from counting import described
from torch import nn

from micronet_search.config.network import DenseNet, EfficientNet, Input, Network, ResNet, Stem
from micronet_search.network import family
from micronet_search.network.layers import convolution
from micronet_search.network.parts import NoValues, Part, chain
from micronet_search.network.precision import layers_of
from micronet_search.network.shapes import passes, replace, weighted

NETWORKS: list[Network] = [
    DenseNet(family="densenet", stem=Stem(width=8, stride=2), growth_rate=4, layers=(2, 1)),
    DenseNet(
        family="densenet", stem=Stem(width=8), growth_rate=4, layers=(2,), convolution="separable"
    ),
    ResNet(family="resnet", stem=Stem(width=8), widths=(8, 16), layers=(1, 2), layer="bottleneck"),
    ResNet(
        family="resnet",
        stem=Stem(width=8, kernel=5, stride=2),
        widths=(8, 16),
        layers=(1, 2),
        convolution="separable",
        between="nothing",
    ),
    EfficientNet(
        family="efficientnet",
        stem=Stem(width=8, kernel=1, stride=4),
        widths=(8,),
        layers=(2,),
        expansions=(1,),
        between="norm",
    ),
    EfficientNet(
        family="efficientnet",
        stem=Stem(width=8, stride=2),
        widths=(8, 16),
        layers=(1, 2),
        strides=(1, 2),
        kernels=(3, 5),
        expansions=(1, 4),
        squeeze=(0.25, 0.25),
        groups=(1, 1),
        activation="hard-swish",
        head=24,
    ),
]


def observed(network: nn.Module) -> list[tuple[str, torch.Size]]:
    """Notes the shapes that the layers put out from now on."""
    found: list[tuple[str, torch.Size]] = []

    def observe(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda _, read, made: found.append((name, made.shape)))

    for name, module in network.named_modules():
        if not isinstance(module, nn.Identity | nn.Flatten) and not list(module.children()):
            observe(name, module)
    return found


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.family)
@pytest.mark.parametrize("sides", [(32, 32), (17, 23)], ids=str)
def test_shapes_are_those_that_torch_computes(config: Network, sides: tuple[int, int]) -> None:
    layers = passes(described(config), Input(channels=3, height=sides[0], width=sides[1]))
    network = family.build(config, 3, 10).eval()
    expected = observed(network)
    assert network(torch.zeros(1, 3, *sides)).shape == (1, 10)
    image = {"classifier": (1, 10)}  # all others put out an image
    assert [(p.name, image.get(p.name, (1, p.channels, p.height, p.width))) for p in layers] == (
        expected
    )


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.family)
def test_what_is_built_without_values_is_the_same_otherwise(config: Network) -> None:
    torch.manual_seed(0)
    randomness = torch.get_rng_state()
    with NoValues():
        found = described(config).module()
    assert torch.equal(randomness, torch.get_rng_state())
    expected = family.build(config, 3, 10)
    assert repr(found) == repr(expected)
    assert {name: (t.shape, t.dtype) for name, t in found.state_dict().items()} == {
        name: (t.shape, t.dtype) for name, t in expected.state_dict().items()
    }


def test_others_take_the_place_of_layers_and_of_chains() -> None:
    first, second, third = convolution(3, 4, 1), convolution(4, 6, 3, 2), convolution(6, 5, 1)
    network = chain(convolution(3, 5, 3, 2), Part(nn.ReLU), chain(convolution(5, 2, 1)))
    parts = {"0": chain(first, second, third), "2.0": convolution(5, 7, 1)}
    layers = passes(network, Input(height=9, width=6))
    found = replace(layers, parts)
    rows = [(p.name, [s.name for s in p.sources], p.channels, p.height, p.width) for p in found]
    assert rows == [
        ("0.0", [""], 4, 9, 6),
        ("0.1", ["0.0"], 6, 5, 3),
        ("0.2", ["0.1"], 5, 5, 3),
        ("1", ["0.2"], 5, 5, 3),
        ("2.0", ["1"], 7, 5, 3),
    ]
    assert [layer.name for layer in layers] == ["0", "1", "2.0"]
    weights = {name: tuple(m.weight.shape) for name, m in layers_of(network.module(parts)).items()}
    assert weights == {name: part.weights for name, part in weighted(found).items()}


def test_a_layer_of_unknown_shape_is_named() -> None:
    with pytest.raises(AssertionError, match="1: GELU"):
        passes(chain(convolution(3, 4, 1), Part(nn.GELU)), Input())


def test_a_classifier_reads_one_pixel() -> None:
    linear = Part(nn.Linear, {"in_features": 4, "out_features": 2, "bias": True})
    with pytest.raises(AssertionError, match="2 reads more than one pixel"):
        passes(chain(convolution(3, 4, 1), Part(nn.Flatten), linear), Input())
