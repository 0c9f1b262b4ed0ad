"""The values of the tensors that are shipped; `network.tensors` lists which these are."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from micronet_search.compression.graph import affine
from micronet_search.compression.quantizers import (
    InputQuantizer,
    SignQuantizer,
    WeightQuantizer,
    by_row,
)
from micronet_search.network.precision import Plan
from micronet_search.network.tensors import Role, layer_specs, tensors_of


@torch.no_grad()
def store(network: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """Returns the stored tensors of a trained network by name, on the CPU."""
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        if specs := layer_specs(name, module, plan):
            values = _values(module)
            assert values.keys() == {t.role for t in specs}, name
            found |= {t.name: values[t.role].to(t.dtype) for t in specs}
    return {name: t.detach().cpu().contiguous() for name, t in found.items()}


def _values(module: nn.Module) -> dict[Role, Tensor]:
    if isinstance(module, nn.BatchNorm2d):
        factor, summand = affine(module)
        return {"weight": factor, "bias": summand}
    assert isinstance(module, nn.Conv2d | nn.Linear)
    found: dict[Role, Tensor] = {"weight": module.weight}
    if module.bias is not None:
        found["bias"] = module.bias
    quantizer = getattr(module, "weight_quantizer", None)
    if isinstance(quantizer, WeightQuantizer | SignQuantizer):
        # the integers are multiples of the scale as stored
        found["weight_scale"] = scale = quantizer.scale_of(module.weight).half()
        found["weight"] = quantizer.integers(module.weight, scale.float())
    quantizer = getattr(module, "input_quantizer", None)
    if isinstance(quantizer, InputQuantizer):
        found["input_scale"] = quantizer.scale
    return found


@torch.no_grad()
def install(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Makes a network compute with its stored tensors alone, in place; its quantizers are in."""
    for name, module in network.named_modules():
        stored = tensors_of(name, tensors)
        if isinstance(module, nn.Conv2d | nn.Linear):
            _install_layer(module, stored)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()  # to a mean of 0 and a variance of 1
            module.eps = 0.0
            module.weight.copy_(stored["weight"])
            module.bias.copy_(stored["bias"])
    network.eval()


def _install_layer(layer: nn.Conv2d | nn.Linear, stored: Mapping[Role, Tensor]) -> None:
    weight = stored["weight"].to(layer.weight)
    if "weight_scale" in stored:
        scale = stored["weight_scale"].to(layer.weight)
        weight = weight * by_row(scale, weight)
        if isinstance(layer.weight_quantizer, WeightQuantizer):
            layer.weight_quantizer.set_scale(scale)
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(stored["bias"])
    if "input_scale" in stored:
        assert isinstance(layer.input_quantizer, InputQuantizer)
        layer.input_quantizer.set_scale(stored["input_scale"])
