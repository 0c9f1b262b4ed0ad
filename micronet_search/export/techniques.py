"""What made a network smaller, in the words of the model card."""

from __future__ import annotations

from collections.abc import Iterator

from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Factorization, Quantization
from micronet_search.config.training import Distillation
from micronet_search.network.precision import Plan

FAMILIES = {"densenet": "a DenseNet", "resnet": "a ResNet", "efficientnet": "an EfficientNet"}

_MODES = {
    "static": "static: the range of a layer's inputs was learned and is fixed",
    "dynamic": "dynamic: the range of a layer's inputs is computed from each image as it passes",
}
_KINDS = {
    "svd": "SVD: layers became products of two, through fewer channels",
    "tucker": "Tucker-2: convolutions became products of three, through fewer channels",
}


def tags(candidate: Candidate) -> Iterator[str]:
    """The names of the techniques that a candidate uses, for model hubs."""
    if candidate.quantization:
        yield "quantization"
    if candidate.pruning and candidate.pruning.sparsity:
        yield "pruning"
    if candidate.structured_pruning and candidate.structured_pruning.ratio:
        yield "structured-pruning"
    if _factorizes(candidate.factorization):
        yield "factorization"
    if candidate.distillation:
        yield "distillation"


def figures(candidate: Candidate, plan: Plan) -> Iterator[tuple[str, str]]:
    """A line for each technique that is used, and for the widths.

    Args:
        candidate: What was evaluated.
        plan: The widths of its layers.
    """
    yield from _widths(candidate.quantization)
    if candidate.quantization and any(p.scales_input for p in plan.layers.values()):
        yield "quantization of inputs", _MODES[candidate.quantization.mode]
    structured, factorization = candidate.structured_pruning, candidate.factorization
    if structured and structured.ratio:
        yield "channels removed from each layer", f"{structured.ratio:.2%}"
    if factorization and _factorizes(factorization):
        yield "factorization", _KINDS[factorization.kind]
        yield "rank, as a share of the full one", f"{factorization.ratio:.2%}"
    if candidate.distillation:
        yield from _teacher(candidate.distillation)


def _factorizes(factorization: Factorization | None) -> bool:
    """Whether some rank is lower than the full one."""
    return factorization is not None and factorization.ratio < 1.0


def _widths(quantization: Quantization | None) -> Iterator[tuple[str, str]]:
    quantization = quantization or Quantization(weight_bits=32, activation_bits=32)
    apart = {
        "the first layer": quantization.first,
        **{f"`{name}`": widths for name, widths in quantization.blocks.items()},
        "the last layer": quantization.last,
    }
    yield "bits of weights", _bits(quantization.weight_bits)
    for place, widths in apart.items():
        if widths.weight_bits:
            yield f"bits of weights, {place}", _bits(widths.weight_bits)
    yield "bits of activations", str(quantization.activation_bits)
    for place, widths in apart.items():
        if widths.activation_bits:
            yield f"bits of activations, {place}", str(widths.activation_bits)


def _bits(weight_bits: int) -> str:
    signs = "1: signs, with a scale for each output channel"
    return signs if weight_bits == 1 else str(weight_bits)


def _teacher(distillation: Distillation) -> Iterator[tuple[str, str]]:
    teacher = distillation.teacher
    if teacher.network and teacher.training:
        family, epochs = FAMILIES[teacher.network.family], teacher.training.epochs
        yield "teacher", f"{family}, trained for {epochs} epochs"
    else:
        yield "teacher", f"trial {teacher.trial} of the study `{teacher.study}`"
    yield "temperature of the teacher's outputs", f"{distillation.temperature:g}"
    yield "weight of the teacher's outputs in the loss", f"{distillation.weight:g}"
