"""The tensors that are shipped: what is scored, saved and exported, and nothing else.

For each convolution and linear layer NAME: `NAME.weight` (int8 for widths of 8 bits and fewer, else
half or single precision), `NAME.bias`, and where they are integer `NAME.weight_scale` (output
channels) and `NAME.input_scale` (1, unless it is that of each image). For each norm that is not
folded: `NAME.weight` and `NAME.bias`, the factor and the summand per channel that are left of it.
Biases, scales and norms have the plan's rest width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from micronet_search.compression.fold import affine
from micronet_search.compression.quantizers import InputQuantizer, SignQuantizer, WeightQuantizer
from micronet_search.compression.rounding import SMALLEST_SCALE, by_row
from micronet_search.network.precision import Plan, layers_of

_FLOATS = {16: torch.float16, 32: torch.float32}


@torch.no_grad()
def store(network: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The stored tensors of a trained network, on the CPU."""
    rest = _FLOATS[plan.rest_bits]
    found: dict[str, Tensor] = {}
    for name, layer in layers_of(network).items():
        precision = plan.layers[name]
        if precision.scales_weights:
            quantizer = layer.weight_quantizer
            assert isinstance(quantizer, WeightQuantizer | SignQuantizer)
            scale = _stored_scale(quantizer.scale_of(layer.weight))
            found[f"{name}.weight_scale"] = scale
            found[f"{name}.weight"] = quantizer.integers(layer.weight, scale.float()).to(torch.int8)
        else:
            found[f"{name}.weight"] = layer.weight.to(_FLOATS[precision.weight_bits])
        if layer.bias is not None:
            found[f"{name}.bias"] = layer.bias.to(rest)
        if precision.stores_input_scale:
            assert isinstance(layer.input_quantizer, InputQuantizer)
            found[f"{name}.input_scale"] = _stored_scale(layer.input_quantizer.scale)
    for name, norm in _norms(network).items():
        factor, summand = affine(norm)
        found[f"{name}.weight"], found[f"{name}.bias"] = factor.to(rest), summand.to(rest)
    return {name: t.detach().cpu().contiguous() for name, t in found.items()}


def layout(network: nn.Module, plan: Plan) -> dict[str, Tensor]:
    """The tensors that `store` would give, on the `meta` device: names, shapes and types alone.

    Args:
        network: Plain modules, norms folded where they are.
        plan: The width of each layer.
    """
    rest = _FLOATS[plan.rest_bits]
    found: dict[str, tuple[torch.Size | tuple[int], torch.dtype]] = {}
    for name, layer in layers_of(network).items():
        precision, weight = plan.layers[name], layer.weight.shape
        if precision.scales_weights:
            found[f"{name}.weight_scale"] = weight[:1], torch.float16
            found[f"{name}.weight"] = weight, torch.int8
        else:
            found[f"{name}.weight"] = weight, _FLOATS[precision.weight_bits]
        if layer.bias is not None:
            found[f"{name}.bias"] = weight[:1], rest
        if precision.stores_input_scale:
            found[f"{name}.input_scale"] = (1,), torch.float16
    for name, norm in _norms(network).items():
        found |= {f"{name}.{part}": ((norm.num_features,), rest) for part in ("weight", "bias")}
    return {
        name: torch.empty(shape, dtype=dtype, device="meta")
        for name, (shape, dtype) in found.items()
    }


def _stored_scale(scale: Tensor) -> Tensor:
    return scale.clamp_min(SMALLEST_SCALE).half()


@torch.no_grad()
def install(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Makes a network, quantizers in, compute with the stored tensors alone, in place."""
    layers = layers_of(network)
    for name, layer in layers.items():
        weight = tensors[f"{name}.weight"].to(layer.weight)
        if f"{name}.weight_scale" in tensors:
            scale = tensors[f"{name}.weight_scale"].to(layer.weight)
            weight = weight * by_row(scale, weight)
            if isinstance(layer.weight_quantizer, WeightQuantizer):
                layer.weight_quantizer.set_scale(scale)
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(tensors[f"{name}.bias"])
        if f"{name}.input_scale" in tensors:
            assert isinstance(layer.input_quantizer, InputQuantizer)
            layer.input_quantizer.set_scale(tensors[f"{name}.input_scale"])
    for name, norm in _norms(network).items():
        assert norm.running_mean is not None
        assert norm.running_var is not None
        norm.weight.copy_(tensors[f"{name}.weight"])
        norm.bias.copy_(tensors[f"{name}.bias"])
        norm.running_mean.zero_()
        norm.running_var.fill_(1.0)
        norm.eps = 0.0
    network.eval()


def _norms(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {n: m for n, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}
