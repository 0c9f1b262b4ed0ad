"""Quantization: fewer bits for weights and for inputs of layers, with learned scales."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from micronet_search.compression.graph import fold, nonnegative_inputs
from micronet_search.compression.quantized_layers import QuantizedConv2d, QuantizedLinear
from micronet_search.compression.quantizers import (
    SMALLEST_SCALE,
    DynamicInputQuantizer,
    Half,
    InputQuantizer,
    Quantizer,
    SignQuantizer,
    WeightQuantizer,
)
from micronet_search.compression.technique import Technique
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Quantization
from micronet_search.network.precision import Plan, Precision, layers_of, plan

_SAMPLES = 2**13
_GRID = 40


def insert(network: nn.Module, plan: Plan) -> None:
    """Inserts quantizers, in place. Learned scales are 1 until `calibrate`."""
    if plan.rest_bits == 32:
        return
    nonnegative = nonnegative_inputs(network)
    for name, layer in layers_of(network).items():
        precision = plan.layers[name]
        # the layer keeps its parameters and hyperparameters, and gains the quantizers
        layer.__class__ = QuantizedConv2d if isinstance(layer, nn.Conv2d) else QuantizedLinear
        layer.weight_quantizer = _weight_quantizer(precision.weight_bits, len(layer.weight))
        layer.input_quantizer = _input_quantizer(precision, signed=name not in nonnegative)
        layer.to(layer.weight.device)


def _weight_quantizer(bits: int, channels: int) -> nn.Module:
    kinds: dict[int, type[nn.Module]] = {32: nn.Identity, 16: Half, 1: SignQuantizer}
    return kinds[bits]() if bits in kinds else WeightQuantizer(bits, channels)


def _input_quantizer(precision: Precision, *, signed: bool) -> nn.Module:
    if precision.scales_input:
        kind = DynamicInputQuantizer if precision.dynamic else InputQuantizer
        return kind(precision.activation_bits, signed=signed)
    return Half() if precision.activation_bits == 16 else nn.Identity()


@torch.no_grad()
def calibrate(network: nn.Module, batches: Iterable[Tensor]) -> None:
    """Sets every learned scale to the one with the least squared error, in place.

    The ranges of inputs are sampled from batches of normalised training images (N, C, H, W).
    """
    samples: defaultdict[Quantizer, list[Tensor]] = defaultdict(list)

    def sample(quantizer: Quantizer, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        flat = inputs[0].flatten()
        step = max(1, flat.numel() // _SAMPLES)
        # with a common divisor the sample could be the first pixel of each row alone
        while math.gcd(step, flat.numel()) > 1:
            step += 1
        samples[quantizer].append(flat[::step].float())
        return inputs[0]  # unrounded

    handles = []
    for layer in layers_of(network).values():
        if isinstance(quantizer := layer.weight_quantizer, WeightQuantizer):
            weights = layer.weight.flatten(1)
            quantizer.set_scale(best_scale(weights, quantizer.low, quantizer.high))
        if isinstance(layer.input_quantizer, InputQuantizer):
            handles.append(layer.input_quantizer.register_forward_hook(sample))
    network.eval()
    for batch in batches:
        network(batch)
    for handle in handles:
        handle.remove()
    for reader, seen in samples.items():
        reader.set_scale(best_scale(torch.cat(seen)[None], reader.low, reader.high))


def best_scale(values: Tensor, low: int, high: int) -> Tensor:
    """Returns the scale (rows,) of each row of values (rows, samples) with the least squared error.

    The candidates are 40 even parts of the largest scale that a row needs.
    """
    largest = values.abs().amax(1)
    best = torch.full_like(largest, SMALLEST_SCALE)
    least = torch.full_like(largest, torch.inf)
    for part in range(1, _GRID + 1):
        scale = (largest / high * (part / _GRID)).clamp_min(SMALLEST_SCALE)
        rounded = (values / scale[:, None]).round().clamp(low, high) * scale[:, None]
        error = (rounded - values).square().sum(1)
        best = torch.where(error < least, scale, best)
        least = torch.minimum(error, least)
    return best


_MODES = {
    "static": "static: the range of a layer's inputs was learned and is fixed",
    "dynamic": "dynamic: the range of a layer's inputs is computed from each image as it passes",
}


class LearnedQuantization(Technique):
    """Inserts quantizers and fine-tunes the network with them, then folds its norms.

    The norms stay while the network trains, because it learns badly without them. Afterwards their
    factors go into the scales of the output channels, so that the integers stay (see `fold`).
    """

    stage, field = "quantize", "quantization"

    def epochs(self, candidate: Candidate, plan: Plan) -> int:
        """Returns the epochs of the field, or 0 where no layer is integer."""
        return super().epochs(candidate, plan) if plan.integer else 0

    def transform(self, network: nn.Module, candidate: Candidate) -> None:
        """Inserts quantizers, in place."""
        insert(network, plan(candidate.quantization, layers_of(network)))

    def finish(self, network: nn.Module, candidate: Candidate) -> None:
        """Folds norms into integer weights, in place."""
        fold(network, plan(candidate.quantization, layers_of(network)))

    def calibrate(self, network: nn.Module, images: Iterable[Tensor]) -> None:
        """Sets the learned scales to those with the least error, in place."""
        if any(isinstance(module, Quantizer) for module in network.modules()):
            calibrate(network, images)

    def figures(self, candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
        """Yields the bit widths, and where the ranges of inputs come from."""
        config = candidate.quantization
        asked = config or Quantization(weight_bits=32, activation_bits=32)
        apart = {f", `{name}`": widths for name, widths in asked.blocks.items()}
        apart = {", the first layer": asked.first, **apart, ", the last layer": asked.last}
        for name in ("weight", "activation"):
            for place, widths in {"": asked, **apart}.items():
                if bits := getattr(widths, f"{name}_bits"):
                    signs = ": signs, with a scale for each output channel" if bits == 1 else ""
                    yield f"bits of {name}s{place}", f"{bits}{signs}"
        if config is not None and any(p.scales_input for p in plan.layers.values()):
            yield "quantization of inputs", _MODES[config.mode]


TECHNIQUE = LearnedQuantization()
