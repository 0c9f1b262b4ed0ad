import pytest
import torch
from torch import Tensor, nn

from micronet_search.config.network import DenseNet, EfficientNet, Input, Network, ResNet, Stem
from micronet_search.network import family
from micronet_search.network.shapes import Passed, ShapesOnly, passes

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


def observed(network: nn.Module) -> list[Passed]:
    """Notes what Torch passes through the layers from now on."""
    found: list[Passed] = []

    def observe(name: str, module: nn.Module) -> None:
        module.register_forward_hook(
            lambda _, read, made: found.append(Passed(name, module, read[0].shape, made.shape))
        )

    for name, module in network.named_modules():
        if not list(module.children()):
            observe(name, module)
    return found


@pytest.mark.parametrize("config", NETWORKS, ids=lambda config: config.family)
@pytest.mark.parametrize("sides", [(32, 32), (17, 23)], ids=str)
def test_shapes_are_those_that_torch_computes(config: Network, sides: tuple[int, int]) -> None:
    image = Input(channels=3, height=sides[0], width=sides[1])
    network = family.build(config, 3, 10).eval()
    found = passes(network, image)
    expected = observed(network)
    output = network(torch.zeros(1, 3, *sides))
    assert found == expected
    assert found[-1].made == output.shape == (1, 10)


def test_a_network_built_from_shapes_has_those_of_a_real_one() -> None:
    for config in NETWORKS:
        with ShapesOnly():
            found = family.build(config, 3, 10)
        expected = family.build(config, 3, 10).state_dict()
        assert all(tensor.is_meta for tensor in found.state_dict().values())
        assert {name: (t.shape, t.dtype) for name, t in found.state_dict().items()} == {
            name: (t.shape, t.dtype) for name, t in expected.items()
        }


def test_a_layer_of_unknown_shape_is_named() -> None:
    class Twice(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.cat([image, image], 1)

    with pytest.raises(AssertionError, match="0: Twice"):
        passes(nn.Sequential(Twice()), Input())
