"""The shapes that pass through a network, without any values.

Torch finds them too on its `meta` device. But that takes up to 2 ms a layer, and the first layer
makes Torch import its compiler, which takes half a second.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from micronet_search.config.network import Input
from micronet_search.network.layers import ACTIVATIONS, Add, Scale

_SAME = (*ACTIVATIONS.values(), nn.Sigmoid, nn.Hardsigmoid, nn.BatchNorm2d, nn.Identity, Add, Scale)
"""The layers whose output has the shape of their first input."""

_MAKES = {torch.empty, torch.ones, torch.tensor, torch.zeros}
# zeros and ones are quick to fill in
_INITIALISES = {nn.init.kaiming_uniform_, nn.init.uniform_, Tensor.normal_, Tensor.uniform_}


class Passed(NamedTuple):
    """One layer that an image has passed: its name, and the shapes that it reads and makes."""

    name: str
    module: nn.Module
    read: torch.Size
    made: torch.Size


def passes(network: nn.Module, image: Input) -> list[Passed]:
    """Returns the plain layers of a network in the order in which one image passes them."""
    found: list[Passed] = []
    layers = {n: module for n, module in network.named_modules() if not list(module.children())}

    def forward(name: str, module: nn.Module, image: Tensor, *others: Tensor) -> Tensor:
        made = image.shape if isinstance(module, _SAME) else _made(name, module, image.shape)
        found.append(Passed(name, module, image.shape, made))
        return image if isinstance(module, _SAME) else image.new_empty(made)

    for name, module in layers.items():
        module.forward = partial(forward, name, module)
    try:
        with ShapesOnly():
            network(torch.empty(1, image.channels, image.height, image.width, device="meta"))
    finally:
        for module in layers.values():
            del module.forward
    return found


def _made(name: str, module: nn.Module, shape: torch.Size) -> torch.Size:
    match module:
        case nn.Conv2d(dilation=(1, 1)):
            return torch.Size((shape[0], module.out_channels, *_sides(module, shape)))
        case nn.AvgPool2d(ceil_mode=False):
            return torch.Size((*shape[:2], *_sides(module, shape)))
        case nn.AdaptiveAvgPool2d(output_size=1):
            return torch.Size((*shape[:2], 1, 1))
        case nn.Linear():
            return torch.Size((*shape[:-1], module.out_features))
        case nn.Flatten():
            return torch.Size((shape[0], shape[1:].numel()))
    raise AssertionError(f"{name}: {type(module).__name__}")


def _sides(module: nn.Conv2d | nn.AvgPool2d, shape: torch.Size) -> list[int]:
    """Returns the height and the width that a window leaves."""
    sizes: list[Any] = [module.kernel_size, module.stride, module.padding]
    pairs = [size if isinstance(size, tuple) else (size, size) for size in sizes]
    windows = zip(shape[2:], *pairs, strict=True)
    return [
        (side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in windows
    ]


class ShapesOnly(TorchFunctionMode):
    """Makes tensors on `meta`, joins them by their shapes, and initialises no weights."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Returns what `function` returns, but for making, joining and initialising."""
        kwargs = kwargs or {}
        if function is torch.cat:
            first, *others = args[0]
            channels = first.shape[1] + sum(image.shape[1] for image in others)
            return first.new_empty((first.shape[0], channels, *first.shape[2:]))
        if function in _MAKES and kwargs.get("device") is None:
            return function(*args, **kwargs | {"device": "meta"})
        if function in _INITIALISES:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **kwargs)
