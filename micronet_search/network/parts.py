"""Networks as descriptions, from which they are built, and from which their cost follows."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn
from torch.overrides import TorchFunctionMode

_CONVOLUTION = ("out_channels", "in_channels", "kernel_size", "groups")


class Part(NamedTuple):
    """A module that is not built: a plain layer with the options of its class, or its children."""

    kind: type[nn.Module]
    options: Mapping[str, Any] = {}
    children: Mapping[str, Part] = {}

    def module(self, replaced: Mapping[str, Part] | None = None, name: str = "") -> nn.Module:
        """Builds the module of this `name`, with others in the place of those that are replaced."""
        part = replaced.get(name, self) if replaced else self
        inside = f"{name}." if name else ""
        built = {n: child.module(replaced, inside + n) for n, child in part.children.items()}
        if part.kind is nn.Sequential:
            return nn.Sequential(OrderedDict(built))
        return part.kind(**part.options, **built)

    @property
    def weights(self) -> tuple[int, ...]:
        """The shape of the weights of a convolution or linear layer; empty for all others."""
        if self.kind is nn.Conv2d:
            out, entering, kernel, groups = map(self.options.__getitem__, _CONVOLUTION)
            return out, entering // groups, kernel, kernel
        if self.kind is nn.Linear:
            return self.options["out_features"], self.options["in_features"]
        return ()

    @property
    def parameters(self) -> int:
        """The number of its parameters, where it is a plain layer."""
        if weights := self.weights:
            return math.prod(weights) + weights[0] * int(self.options["bias"])
        return 2 * int(self.options.get("num_features", 0))

    @property
    def is_depthwise(self) -> bool:
        """Whether it is a convolution that reads a single channel in each of several groups."""
        channels: int = self.options.get("in_channels", 0)
        return channels == self.options.get("groups") and channels > 1

    def changed(self, **options: Any) -> Part:
        """Describes the layer with some other options."""
        return Part(self.kind, {**self.options, **options})


class Composite(nn.Module):
    """A module of others, which its `forward` calls by their names."""

    def __init__(self, **children: nn.Module) -> None:
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)

    if TYPE_CHECKING:  # it has those of its children's names

        def __getattr__(self, name: str) -> Any: ...


class NoValues(TorchFunctionMode):
    """Leaves the weights of layers that are built as they happen to be, which takes no time."""

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Returns what `function` returns, but for drawing values."""
        if function in (nn.init.kaiming_uniform_, nn.init.uniform_):
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def chain(*parts: Part) -> Part:
    """Describes a sequence of modules, which are numbered."""
    return sequential({str(number): part for number, part in enumerate(parts)})


def sequential(parts: Mapping[str, Part]) -> Part:
    """Describes a sequence of modules under their names."""
    return Part(nn.Sequential, children=parts)
