"""The layers that families share.

Every operation with a cost is a module, so that the layer table and the graph contain it. No module
works in place.
"""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from micronet_search.config.network import BETWEEN, Activation, Between, Convolution, Stem

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "hard-swish": nn.Hardswish}


class Add(nn.Module):
    """Adds two images, element by element."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns an image of the shape (N, C, H, W) that both have."""
        return first + second


class Scale(nn.Module):
    """Multiplies each channel of an image by a gate."""

    def forward(self, image: Tensor, gate: Tensor) -> Tensor:
        """Returns (N, C, H, W) from an image (N, C, H, W) and gates (N, C, 1, 1)."""
        return image * gate


class GlobalMean(nn.AdaptiveAvgPool2d):
    """Takes the mean over all pixels. Its gradient is channels last in memory, unlike Torch's."""

    def __init__(self) -> None:
        super().__init__(1)

    def forward(self, image: Tensor) -> Tensor:
        """Returns (N, C, 1, 1) from an image (N, C, H, W)."""
        mean: Tensor = _Mean.apply(image)
        return mean


class _Mean(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor) -> Tensor:
        ctx.shape = image.shape
        return image.mean((2, 3), keepdim=True)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        each: Tensor = (gradient / ctx.shape[2:].numel()).expand(ctx.shape)
        return each.contiguous(memory_format=torch.channels_last)


class Residual(nn.Module):
    """Adds the outputs of a body and of a shortcut, then applies an activation."""

    def __init__(self, body: nn.Module, shortcut: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.body, self.shortcut = body, shortcut
        self.add, self.activation = Add(), activation

    def forward(self, image: Tensor) -> Tensor:
        """Returns an image of the shape that body and shortcut both put out."""
        output: Tensor = self.activation(self.add(self.body(image), self.shortcut(image)))
        return output


class SqueezeExcite(nn.Module):
    """Multiplies each channel by a gate, 0 to 1, computed from all means (Hu et al., 2018)."""

    def __init__(self, channels: int, reduced: int, activation: Activation) -> None:
        super().__init__()
        self.pool = GlobalMean()
        self.reduce = nn.Conv2d(channels, reduced, 1)
        self.activation = ACTIVATIONS[activation]()
        self.expand = nn.Conv2d(reduced, channels, 1)
        self.gate = nn.Hardsigmoid() if activation == "hard-swish" else nn.Sigmoid()
        self.scale = Scale()

    def forward(self, image: Tensor) -> Tensor:
        """Returns an image of the same shape."""
        squeezed = self.activation(self.reduce(self.pool(image)))
        scaled: Tensor = self.scale(image, self.gate(self.expand(squeezed)))
        return scaled


def sequential(parts: Mapping[str, nn.Module]) -> nn.Sequential:
    """Chains modules under their names."""
    return nn.Sequential(OrderedDict(parts))


def convolution(
    channels: int,
    width: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    kind: Convolution = "plain",
    between: Between = BETWEEN,
) -> nn.Module:
    """Makes a convolution without bias, padded to keep the size of the image at stride 1.

    A `separable` one (Howard et al., 2017) is a depthwise convolution, what stands `between`, and a
    1x1 convolution, which has the groups.
    """
    if kind == "plain":
        return nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=False)
    return sequential(
        {
            "depthwise": convolution(channels, channels, kernel, stride, groups=channels),
            **inside(between, channels, "relu"),
            "pointwise": convolution(channels, width, 1, groups=groups),
        }
    )


def inside(between: Between, channels: int, activation: Activation) -> dict[str, nn.Module]:
    """Makes what stands between the two halves of a separable convolution, by name."""
    parts: dict[str, nn.Module] = {}
    if between in ("norm", "norm-activation"):
        parts["norm"] = nn.BatchNorm2d(channels)
    if between in ("activation", "norm-activation"):
        parts["activation"] = ACTIVATIONS[activation]()
    return parts


def normed(conv: nn.Module, width: int, activation: Activation | None) -> nn.Sequential:
    """Appends a norm to a convolution, and an activation if one is given."""
    last = {"activation": ACTIVATIONS[activation]()} if activation else {}
    return sequential({"conv": conv, "norm": nn.BatchNorm2d(width), **last})


def stem(config: Stem, channels: int) -> nn.Module:
    """Makes the first convolution, for an image of that many channels."""
    return convolution(channels, config.width, config.kernel, config.stride)


def with_classifier(parts: Mapping[str, nn.Module], width: int, classes: int) -> nn.Sequential:
    """Completes a network with a classifier of the mean over all pixels, and initialises it."""
    end = {"pool": GlobalMean(), "flatten": nn.Flatten(), "classifier": nn.Linear(width, classes)}
    network = sequential({**parts, **end})
    initialise(network)
    return network


def initialise(network: nn.Module) -> None:
    """Draws normal weights for convolutions (He et al., 2015b), and sets all biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
