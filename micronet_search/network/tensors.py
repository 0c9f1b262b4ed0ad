"""The tensors of a shipped network: the one list that storing, loading, costing and export read."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar, get_args

import torch
from torch import nn

from micronet_search.config.model import INTEGER
from micronet_search.network.precision import Plan

Role = Literal["weight", "bias", "weight_scale", "input_scale"]
"""What a tensor holds of its layer. A norm keeps a factor (`weight`) and a summand (`bias`)."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a shipped network, without its values; `bits` is the width of an element."""

    layer: str
    role: Role
    shape: tuple[int, ...]
    bits: int

    @property
    def name(self) -> str:
        """Its name in every file."""
        return tensor_name(self.layer, self.role)

    @property
    def elements(self) -> int:
        """The number of its elements, zeros included."""
        return math.prod(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The type in which the file keeps it: int8 for every width of 8 bits and fewer."""
        if self.bits <= INTEGER:
            return torch.int8
        return torch.float16 if self.bits == 16 else torch.float32


def tensor_name(layer: str, role: Role) -> str:
    """Returns the name that a tensor has in every file."""
    return f"{layer}.{role}"


def layer_specs(name: str, module: nn.Module, plan: Plan) -> tuple[TensorSpec, ...]:
    """Describes what a convolution, linear layer or norm stores; the weights come first."""
    spec, rest = partial(TensorSpec, name), plan.rest_bits
    if isinstance(module, nn.BatchNorm2d):
        channels = (module.num_features,)
        return spec("weight", channels, rest), spec("bias", channels, rest)
    if not isinstance(module, nn.Conv2d | nn.Linear):
        return ()
    precision, shape = plan.layers[name], tuple(module.weight.shape)
    found = [spec("weight", shape, precision.weight_bits)]
    if module.bias is not None:
        found.append(spec("bias", shape[:1], rest))
    if precision.scales_weights:
        found.append(spec("weight_scale", shape[:1], rest))
    if precision.stores_input_scale:
        found.append(spec("input_scale", (1,), rest))
    return tuple(found)


def network_specs(network: nn.Module, plan: Plan) -> Iterator[TensorSpec]:
    """Describes what a network stores, norms folded where they are."""
    for name, module in network.named_modules():
        yield from layer_specs(name, module, plan)


def tensors_of(layer: str, tensors: Mapping[str, Value]) -> dict[Role, Value]:
    """Picks what belongs to one layer out of a network's tensors, which are given by name."""
    names: dict[Role, str] = {role: tensor_name(layer, role) for role in get_args(Role)}
    return {role: tensors[name] for role, name in names.items() if name in tensors}
