"""What the order of layers tells, on little modules made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from micronet_search.compression.graph import foldable_norms, nonnegative_inputs


def conv(channels: int = 4) -> nn.Conv2d:
    return nn.Conv2d(channels, 4, 1)


class Joined(nn.Module):
    """What a ReLU put out, joined with the image or with another ReLU's output."""

    def __init__(self, *, image: bool) -> None:
        super().__init__()
        self.image = image
        self.first, self.relu, self.again = conv(), nn.ReLU(), nn.ReLU()
        self.conv = conv(8)

    def forward(self, image: Tensor) -> Tensor:
        other = image if self.image else self.again(image)
        joined: Tensor = self.conv(torch.cat([self.relu(self.first(image)), other], 1))
        return joined


class ReadTwice(nn.Module):
    """A convolution whose output goes to a norm and elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(), nn.BatchNorm2d(4)

    def forward(self, image: Tensor) -> Tensor:
        output = self.conv(image)
        return torch.cat([output, self.norm(output)], 1)


class NormOfJoined(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(), nn.BatchNorm2d(8)

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.norm(torch.cat([self.conv(image), image], 1))
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
    ],
)
def test_norms_that_fold(network: nn.Module, expected: dict[str, str]) -> None:
    assert foldable_norms(network) == expected
