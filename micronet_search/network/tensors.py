"""The tensors of a shipped network: the one list that storing, loading, costing and export read."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
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


Stores = tuple[Role, tuple[int, ...], int]
"""The role, the shape and the bits of a tensor, as in `TensorSpec`."""


def stored_by_norm(channels: int, plan: Plan) -> list[Stores]:
    """Lists what a norm stores that is not folded."""
    return [("weight", (channels,), plan.rest_bits), ("bias", (channels,), plan.rest_bits)]


def stored_by_layer(name: str, shape: tuple[int, ...], plan: Plan, *, bias: bool) -> list[Stores]:
    """Lists what a convolution or linear layer stores: weights of that shape, and what else."""
    precision, rest, channels = plan.layers[name], plan.rest_bits, shape[:1]
    found: list[Stores] = [("weight", shape, precision.weight_bits)]
    if bias:
        found.append(("bias", channels, rest))
    if precision.scales_weights:
        found.append(("weight_scale", channels, rest))
    if precision.stores_input_scale:
        found.append(("input_scale", (1,), rest))
    return found


def layer_specs(name: str, module: nn.Module, plan: Plan) -> tuple[TensorSpec, ...]:
    """Describes what a convolution, linear layer or norm stores; the weights come first."""
    found: list[Stores] = []
    if isinstance(module, nn.BatchNorm2d):
        found = stored_by_norm(module.num_features, plan)
    elif isinstance(module, nn.Conv2d | nn.Linear):
        shape = tuple(module.weight.shape)
        found = stored_by_layer(name, shape, plan, bias=module.bias is not None)
    return tuple(TensorSpec(name, *stores) for stores in found)


def tensors_of(layer: str, tensors: Mapping[str, Value]) -> dict[Role, Value]:
    """Picks what belongs to one layer out of a network's tensors, which are given by name."""
    names: dict[Role, str] = {role: tensor_name(layer, role) for role in get_args(Role)}
    return {role: tensors[name] for role, name in names.items() if name in tensors}
