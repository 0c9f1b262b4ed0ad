"""What the families share: convolutions of both kinds, residual sums, squeeze-and-excite.

Whatever costs something is a module, so that the layer table and the graph see it, and nothing
works in place.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from micronet_search.config.network import Activation, Convolution, Stem

ACTIVATIONS: Mapping[Activation, type[nn.Module]] = {
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "hard-swish": nn.Hardswish,
}


class Add(nn.Module):
    """The sum of two images, element by element."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(N, C, H, W) twice to (N, C, H, W)."""
        return first + second


class Scale(nn.Module):
    """An image times a gate for each of its channels."""

    def forward(self, image: Tensor, gate: Tensor) -> Tensor:
        """(N, C, H, W) and (N, C, 1, 1) to (N, C, H, W)."""
        return image * gate


class GlobalMean(nn.AdaptiveAvgPool2d):
    """The mean over all pixels, whose gradient has its channels last.

    Torch's comes with the pixels last, and the layers before would work on mixed layouts.
    """

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, 1, 1)."""
        mean: Tensor = _Mean.apply(image)
        return mean


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.shape = image.shape
        return image.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        each: Tensor = (gradient / pixels).expand(ctx.shape)
        return each.contiguous(memory_format=torch.channels_last)


class Residual(nn.Module):
    """The sum of what a body and a shortcut make of an image, then an activation."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut
        self.add, self.activation = Add(), activation

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to what body and shortcut both put out."""
        output: Tensor = self.activation(self.add(self.body(image), self.shortcut(image)))
        return output


class SqueezeExcite(nn.Module):
    """Each channel times a gate between 0 and 1 that the mean of all decides (Hu et al., 2018)."""

    def __init__(self, channels: int, reduced: int, activation: Activation) -> None:
        super().__init__()
        self.pool = GlobalMean()
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.activation = ACTIVATIONS[activation]()
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Hardsigmoid() if activation == "hard-swish" else nn.Sigmoid()
        self.scale = Scale()

    def forward(self, image: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C, H, W)."""
        squeezed = self.activation(self.reduce(self.pool(image)))
        scaled: Tensor = self.scale(image, self.gate(self.expand(squeezed)))
        return scaled


def sequential(parts: Mapping[str, nn.Module]) -> nn.Sequential:
    """The parts one after another, under their names."""
    return nn.Sequential(OrderedDict(parts))


def convolution(
    channels: int,
    width: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    kind: Convolution = "plain",
) -> nn.Module:
    """A convolution for a norm to follow: without bias, padded to keep the image at stride 1.

    Args:
        channels: That it reads.
        width: Channels that it puts out.
        kernel: Its size, odd.
        stride: Its stride.
        groups: Of the convolution; where it is separable, of its 1x1 half.
        kind: `plain`, or `separable`: depthwise, norm, ReLU and 1x1 (Howard et al., 2017).
    """
    padding = kernel // 2
    if kind == "plain":
        return nn.Conv2d(
            channels, width, kernel, stride, padding=padding, groups=groups, bias=False
        )
    depthwise = nn.Conv2d(
        channels, channels, kernel, stride, padding=padding, groups=channels, bias=False
    )
    return sequential(
        {
            "depthwise": depthwise,
            "norm": nn.BatchNorm2d(channels),
            "relu": nn.ReLU(),
            "pointwise": nn.Conv2d(channels, width, 1, groups=groups, bias=False),
        }
    )


def normed(conv: nn.Module, width: int, activation: Activation | None) -> nn.Sequential:
    """A convolution, its norm, and an activation if there is one."""
    parts = {"conv": conv, "norm": nn.BatchNorm2d(width)}
    if activation is not None:
        parts["activation"] = ACTIVATIONS[activation]()
    return sequential(parts)


def stem(config: Stem, channels: int) -> nn.Module:
    """The convolution that reads an image of so many channels."""
    return convolution(channels, config.width, config.kernel, config.stride)


def classifier(width: int, classes: int) -> dict[str, nn.Module]:
    """Mean over all pixels and a linear classifier: (N, width, H, W) to (N, classes)."""
    return {
        "pool": GlobalMean(),
        "flatten": nn.Flatten(),
        "classifier": nn.Linear(width, classes),
    }


def initialise(network: nn.Module) -> None:
    """He's normal weights for convolutions (He et al., 2015b); biases become zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
