"""What the order of layers tells, on little modules made by hand."""

from __future__ import annotations

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor, nn

from micronet_search.compression.graph import foldable_norms, nonnegative_inputs
from micronet_search.config.network import Network
from micronet_search.network import family
from micronet_search.network.layers import Add, Join, Residual, Scale

STEM = {"stem": {"width": 4}}
DENSENET = STEM | {"family": "densenet", "growth_rate": 2, "layers": [1, 1]}
RESNET = STEM | {"family": "resnet", "widths": [4, 6], "layers": 1}
EFFICIENTNET = STEM | {
    "family": "efficientnet",
    "widths": [4],
    "layers": 1,
    "squeeze": 0.5,
    "head": 6,
}


def conv(channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 1)


def added(body: nn.Module, shortcut: nn.Module) -> Residual:
    return Residual(body=body, shortcut=shortcut, add=Add(), activation=nn.Identity())


class Joined(nn.Module):
    """What a ReLU put out, joined with the image or with another ReLU's output."""

    def __init__(self, *, image: bool) -> None:
        super().__init__()
        self.image = image
        self.first, self.relu, self.again = conv(), nn.ReLU(), nn.ReLU()
        self.join, self.conv = Join(), conv(8)

    def forward(self, image: Tensor) -> Tensor:
        other = image if self.image else self.again(image)
        joined: Tensor = self.conv(self.join(self.relu(self.first(image)), other))
        return joined


class Gated(nn.Module):
    """One tensor times another, or their sum, read by a convolution."""

    def __init__(self, together: nn.Module, image: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.image, self.gate, self.together = image, gate, together
        self.conv = conv()

    def forward(self, image: Tensor) -> Tensor:
        read: Tensor = self.conv(self.together(self.image(image), self.gate(image)))
        return read


class ReadTwice(nn.Module):
    """A convolution whose output goes to a norm and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.join = conv(), nn.BatchNorm2d(4), Join()

    def forward(self, image: Tensor) -> Tensor:
        output = self.conv(image)
        joined: Tensor = self.join(output, self.norm(output))
        return joined


class NormOfJoined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.join = conv(), nn.BatchNorm2d(8), Join()

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.norm(self.join(self.conv(image), image))
        return output


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param(nn.Sequential(conv()), set(), id="image"),
        pytest.param(nn.Sequential(nn.ReLU(), conv()), {"1"}, id="relu"),
        pytest.param(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4), conv()), set(), id="norm-between"),
        pytest.param(nn.Sequential(nn.ReLU(), conv(), conv()), {"1"}, id="conv-between"),
        pytest.param(
            nn.Sequential(nn.ReLU(), nn.AvgPool2d(1), nn.Identity(), conv()), {"3"}, id="pool"
        ),
        pytest.param(
            nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
            {"3"},
            id="flatten-linear",
        ),
        pytest.param(nn.Sequential(nn.AvgPool2d(1), conv()), set(), id="pool-of-the-image"),
        pytest.param(nn.Sequential(nn.Sigmoid(), conv()), {"1"}, id="sigmoid"),
        pytest.param(nn.Sequential(nn.Hardsigmoid(), conv()), {"1"}, id="hard-sigmoid"),
        pytest.param(nn.Sequential(nn.SiLU(), conv()), set(), id="silu"),
        pytest.param(nn.Sequential(nn.Hardswish(), conv()), set(), id="hard-swish"),
        pytest.param(Gated(Add(), nn.ReLU(), nn.ReLU()), {"conv"}, id="sum-of-relus"),
        pytest.param(Gated(Add(), nn.ReLU(), nn.Identity()), set(), id="sum-with-the-image"),
        pytest.param(Gated(Scale(), nn.ReLU(), nn.Sigmoid()), {"conv"}, id="gated-relu"),
        pytest.param(Gated(Scale(), nn.SiLU(), nn.Sigmoid()), set(), id="gated-silu"),
        pytest.param(Joined(image=False), {"conv"}, id="joined-relus"),
        pytest.param(Joined(image=True), set(), id="joined-with-the-image"),
    ],
)
def test_inputs_that_are_never_negative(network: nn.Module, expected: set[str]) -> None:
    assert nonnegative_inputs(network) == expected


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        pytest.param(nn.Sequential(conv(), nn.BatchNorm2d(4)), {"1": "0"}, id="after-conv"),
        pytest.param(
            nn.Sequential(conv(), nn.Identity(), nn.BatchNorm2d(4)), {"2": "0"}, id="after-identity"
        ),
        pytest.param(
            nn.Sequential(conv(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)), {"1": "0"}, id="two-norms"
        ),
        pytest.param(nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(4)), {}, id="after-relu"),
        pytest.param(nn.Sequential(nn.BatchNorm2d(4), conv()), {}, id="before-conv"),
        pytest.param(ReadTwice(), {}, id="read-twice"),
        pytest.param(NormOfJoined(), {}, id="after-joining"),
        pytest.param(
            nn.Sequential(Gated(Add(), conv(), conv()), nn.BatchNorm2d(4)),
            {"1": "0.conv"},
            id="after-a-module-that-ends-in-a-conv",
        ),
        pytest.param(
            nn.Sequential(added(conv(), conv()), nn.BatchNorm2d(4)),
            {},
            id="after-a-sum",
        ),
    ],
)
def test_norms_that_fold(network: nn.Module, expected: dict[str, str]) -> None:
    assert foldable_norms(network) == expected


@pytest.mark.parametrize(
    ("fields", "left"),
    [
        # norms of what was joined or pooled stay
        pytest.param(
            DENSENET,
            {"block1.0.bottleneck.0", "block1.transition.0", "block2.0.bottleneck.0", "norm"},
            id="densenet",
        ),
        pytest.param(
            DENSENET | {"bottleneck": 0, "convolution": "separable"},
            {"block1.0.norm", "block1.transition.0", "block2.0.norm", "norm"},
            id="densenet-separable",
        ),
        pytest.param(RESNET, set(), id="resnet"),
        pytest.param(RESNET | {"layer": "bottleneck"}, set(), id="resnet-bottleneck"),
        pytest.param(RESNET | {"convolution": "separable"}, set(), id="resnet-separable"),
        pytest.param(EFFICIENTNET, set(), id="efficientnet"),
        pytest.param(EFFICIENTNET | {"convolution": "plain"}, set(), id="efficientnet-fused"),
    ],
)
def test_norms_of_a_family_that_do_not_fold(fields: dict[str, object], left: set[str]) -> None:
    network = family.build(TypeAdapter(Network).validate_python(fields), 3, 10)
    norms = {n for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert norms - foldable_norms(network).keys() == left


@pytest.mark.parametrize(
    ("fields", "negative"),
    [
        pytest.param(DENSENET, {"stem"}, id="densenet"),
        pytest.param(RESNET, {"stem.conv"}, id="resnet"),
        pytest.param(RESNET | {"convolution": "separable"}, {"stem.conv"}, id="resnet-separable"),
        # without an activation between them, a pointwise half reads what a depthwise one puts out
        pytest.param(
            RESNET | {"convolution": "separable", "between": "nothing"},
            {"stem.conv", *(f"block{n}.0.body.{m}.conv.pointwise" for n in (1, 2) for m in (0, 1))},
            id="resnet-nothing-between",
        ),
        # the narrow end of an inverted residual is not activated
        pytest.param(EFFICIENTNET, {"stem.conv", "head.conv"}, id="efficientnet"),
        pytest.param(
            EFFICIENTNET | {"activation": "silu"},
            {
                "stem.conv",
                "block1.0.body.expand.conv",
                "block1.0.body.depthwise.conv",
                "block1.0.body.squeeze.reduce",
                "block1.0.body.squeeze.expand",
                "block1.0.body.project.conv",
                "head.conv",
                "classifier",
            },
            id="efficientnet-silu",
        ),
    ],
)
def test_inputs_of_a_family_that_may_be_negative(
    fields: dict[str, object], negative: set[str]
) -> None:
    network = family.build(TypeAdapter(Network).validate_python(fields), 3, 10)
    layers = {n for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    assert layers - nonnegative_inputs(network) == negative


@pytest.mark.parametrize("fields", [DENSENET, RESNET, EFFICIENTNET], ids=["dense", "res", "eff"])
def test_inputs_that_are_called_nonnegative_are(fields: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = family.build(TypeAdapter(Network).validate_python(fields), 3, 10)
    least: dict[str, float] = {}
    for name in nonnegative_inputs(network):
        network.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: least.update({name: inputs[0].min().item()})
        )
    network(torch.randn(4, 3, 16, 16))
    assert len(least) > 3
    assert min(least.values()) >= 0.0
