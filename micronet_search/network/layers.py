"""The layers that families share.

Every operation with a cost is a module, so that the layer table and the graph contain it. No module
works in place. The functions describe modules, and build none.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from micronet_search.config.network import BETWEEN, Activation, Between, Convolution, Stem
from micronet_search.network.parts import Composite, Part, sequential

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "hard-swish": nn.Hardswish}


class Add(nn.Module):
    """Adds two images, element by element."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns an image of the shape (N, C, H, W) that both have."""
        return first + second


class Join(nn.Module):
    """Appends the channels of an image to those of another."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Returns (N, C + D, H, W) from images (N, C, H, W) and (N, D, H, W)."""
        return torch.cat([first, second], 1)


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


class Residual(Composite):
    """Adds the outputs of a body and of a shortcut, then applies an activation."""

    def forward(self, image: Tensor) -> Tensor:
        """Returns an image of the shape that body and shortcut both put out."""
        output: Tensor = self.activation(self.add(self.body(image), self.shortcut(image)))
        return output


class SqueezeExcite(Composite):
    """Multiplies each channel by a gate, 0 to 1, computed from all means (Hu et al., 2018)."""

    def forward(self, image: Tensor) -> Tensor:
        """Returns an image of the same shape."""
        squeezed = self.activation(self.reduce(self.pool(image)))
        scaled: Tensor = self.scale(image, self.gate(self.expand(squeezed)))
        return scaled


IDENTITY, RELU, MEAN = Part(nn.Identity), Part(nn.ReLU), Part(GlobalMean)


def residual(body: Part, shortcut: Part, activation: Part) -> Part:
    """Describes a sum of two branches and its activation."""
    parts = {"body": body, "shortcut": shortcut, "add": Part(Add), "activation": activation}
    return Part(Residual, children=parts)


def squeeze_excite(channels: int, reduced: int, activation: Activation) -> Part:
    """Describes gates for that many channels, computed from a reduced number of values."""
    parts = {
        "pool": MEAN,
        "reduce": _conv(channels, reduced, 1, bias=True),
        "activation": Part(ACTIVATIONS[activation]),
        "expand": _conv(reduced, channels, 1, bias=True),
        "gate": Part(nn.Hardsigmoid if activation == "hard-swish" else nn.Sigmoid),
        "scale": Part(Scale),
    }
    return Part(SqueezeExcite, children=parts)


def convolution(
    channels: int,
    width: int,
    kernel: int,
    stride: int = 1,
    groups: int = 1,
    kind: Convolution = "plain",
    between: Between = BETWEEN,
) -> Part:
    """Describes a convolution without bias, padded to keep the size of the image at stride 1.

    A `separable` one (Howard et al., 2017) is a depthwise convolution, what stands `between`, and a
    1x1 convolution, which has the groups.
    """
    if kind == "plain":
        return _conv(channels, width, kernel, stride, groups)
    return sequential(
        {
            "depthwise": _conv(channels, channels, kernel, stride, channels),
            **inside(between, channels, "relu"),
            "pointwise": _conv(channels, width, 1, groups=groups),
        }
    )


def _conv(
    channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, bias: bool = False
) -> Part:
    options = {
        "in_channels": channels,
        "out_channels": width,
        "kernel_size": kernel,
        "stride": stride,
        "padding": kernel // 2,
        "groups": groups,
        "bias": bias,
    }
    return Part(nn.Conv2d, options)


def norm(channels: int) -> Part:
    """Describes a batch norm."""
    return Part(nn.BatchNorm2d, {"num_features": channels})


def inside(between: Between, channels: int, activation: Activation) -> dict[str, Part]:
    """Describes what stands between the two halves of a separable convolution, by name."""
    parts: dict[str, Part] = {}
    if between in ("norm", "norm-activation"):
        parts["norm"] = norm(channels)
    if between in ("activation", "norm-activation"):
        parts["activation"] = Part(ACTIVATIONS[activation])
    return parts


def normed(conv: Part, width: int, activation: Activation | None) -> Part:
    """Appends a norm to a convolution, and an activation if one is given."""
    last = {"activation": Part(ACTIVATIONS[activation])} if activation else {}
    return sequential({"conv": conv, "norm": norm(width), **last})


def stem(config: Stem, channels: int) -> Part:
    """Describes the first convolution, for an image of that many channels."""
    return convolution(channels, config.width, config.kernel, config.stride)


def with_classifier(parts: Mapping[str, Part], width: int, classes: int) -> Part:
    """Completes a network with a classifier of the mean over all pixels."""
    classifier = Part(nn.Linear, {"in_features": width, "out_features": classes, "bias": True})
    return sequential(
        {**parts, "pool": MEAN, "flatten": Part(nn.Flatten), "classifier": classifier}
    )


def initialise(network: nn.Module) -> None:
    """Draws normal weights for convolutions (He et al., 2015b), and sets all biases to zero."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
