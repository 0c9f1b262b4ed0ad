"""What is stored is what is computed with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from candidates import reshape
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import quantizers, stored
from micronet_search.compression.graph import fold
from micronet_search.compression.pruning import prune
from micronet_search.compression.quantization import calibrate, insert
from micronet_search.config.candidate import Candidate
from micronet_search.network.precision import Plan, layers_of

DENSENET = {
    "family": "densenet",
    "stem": {"width": 8},
    "growth_rate": 4,
    "layers": [1, 1],
    "bottleneck": 2,
}
RESNET = {"family": "resnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1}
EFFICIENTNET = {
    "family": "efficientnet",
    "stem": {"width": 8},
    "widths": [8, 12],
    "layers": 2,
    "expansions": 2,
    "squeeze": 0.5,
    "activation": "silu",
}


def widths(weights: int, inputs: int) -> dict[str, Any]:
    return {"weight_bits": weights, "activation_bits": inputs}


# each in some layer
FEW = widths(1, 3) | {
    "first": widths(4, 2),
    "last": widths(2, 5),
    "blocks": {"block2": widths(3, 4)},
}
MANY = widths(7, 8) | {
    "first": widths(5, 8),
    "last": widths(8, 7),
    "blocks": {"block2": widths(6, 6)},
}
SOME = {
    "single": None,
    "half": widths(16, 16),
    "8-8": widths(8, 8),
    "4-8": widths(4, 8),
    "2-4": widths(2, 4),
    "4-32": widths(4, 32),
    "16-8": widths(16, 8),
    "mixed": widths(3, 16) | {"first": widths(8, 4), "last": {"weight_bits": 32}},
}
ALL = {
    "1-to-4-bits": FEW,
    "5-to-8-bits": MANY,
    "1-to-4-bits-dynamic": FEW | {"mode": "dynamic"},
    "5-to-8-bits-dynamic": MANY | {"mode": "dynamic"},
}
NETWORKS: dict[str, dict[str, Any]] = {
    "densenet": {},
    "resnet": {"network": RESNET | {"groups": [1, 2]}},
    "efficientnet": {"network": EFFICIENTNET},
    "thin-densenet": {"structured_pruning": {"ratio": 0.4}},
    "factorized-resnet": {"network": RESNET, "factorization": {"kind": "svd", "ratio": 0.3}},
    "thin-and-factorized-efficientnet": {
        "network": EFFICIENTNET | {"convolution": "plain"},
        "structured_pruning": {"ratio": 0.3},
        "factorization": {"kind": "tucker", "ratio": 0.4},
    },
}
CASES = pytest.mark.parametrize(
    ("quantization", "parts"),
    [pytest.param(quantization, {}, id=name) for name, quantization in SOME.items()]
    + [
        pytest.param(quantization, parts, id=f"{network}-{name}")
        for network, parts in NETWORKS.items()
        for name, quantization in ALL.items()
    ],
)


def candidate(quantization: dict[str, Any] | None, **parts: Any) -> Candidate:
    return Candidate.model_validate(
        {
            "input": {"height": 8, "width": 8},
            "network": DENSENET,
            "training": {"epochs": 1, "learning_rate": 0.1},
            "quantization": quantization,
        }
        | parts
    )


def trained(asked: Candidate) -> tuple[nn.Sequential, Plan]:
    """As if trained: norms that do something, a third of the weights zero, scales calibrated."""
    torch.manual_seed(0)
    network = build.network(asked)
    reshape(network, asked)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 2.0)
            module.bias.data.normal_()
    prune(network, 0.33)
    widths = build.plan(asked, network)
    insert(network, widths)
    if widths.integer:
        calibrate(network, [torch.randn(16, 3, 8, 8)])
    fold(network, widths)
    return network.eval(), widths


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name])
        for name in first
    )


@CASES
def test_stored_and_installed_it_stores_the_same(
    quantization: dict[str, Any] | None, parts: dict[str, Any]
) -> None:
    network, widths = trained(candidate(quantization, **parts))
    tensors = stored.store(network, widths)
    stored.install(network, tensors)
    assert equal(stored.store(network, widths), tensors)


@CASES
def test_a_fresh_network_computes_with_them_what_the_trained_one_did(
    quantization: dict[str, Any] | None, parts: dict[str, Any]
) -> None:
    asked = candidate(quantization, **parts)
    network, widths = trained(asked)
    image = torch.randn(4, 3, 8, 8)
    before, weights = network(image), rounded_weights(network)
    tensors = stored.store(network, widths)
    stored.install(network, tensors)
    fresh, _ = build.compressed(asked)
    stored.install(fresh, tensors)
    assert torch.equal(fresh(image), network(image))
    # what is lost is the half precision of scales, biases and norms
    for name, weight in rounded_weights(network).items():
        assert (weight - weights[name]).norm() < 0.01 * weights[name].norm()
    # and steps of the inputs that it tips, which are small for those of 8 bits and more
    if not asked.quantization or asked.quantization.activation_bits >= 8:
        assert (network(image) - before).norm() < 0.1 * before.norm()


def rounded_weights(network: nn.Module) -> dict[str, Tensor]:
    """What the layers compute with."""
    rounding = {
        n: getattr(m, "weight_quantizer", nn.Identity()) for n, m in layers_of(network).items()
    }
    return {n: rounding[n](m.weight).detach() for n, m in layers_of(network).items()}


@CASES
def test_shapes_types_and_integers_are_what_the_cost_promised(
    quantization: dict[str, Any] | None, parts: dict[str, Any]
) -> None:
    asked = candidate(quantization, **parts)
    tensors = stored.store(*trained(asked))
    width_of = {torch.float32: 32, torch.float16: 16}
    promised = {t.name: t for t in build.predict(asked).stored}
    assert tensors.keys() == promised.keys()
    for name, tensor in tensors.items():
        assert tensor.numel() == promised[name].elements
        if tensor.dtype == torch.int8:
            bits = promised[name].bits
            low, high = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            assert low <= tensor.min()
            assert tensor.max() <= high
        else:
            assert width_of[tensor.dtype] == promised[name].bits


def test_integers_and_scales_by_hand() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    quantization = candidate({"weight_bits": 4, "activation_bits": 8}).quantization
    widths = build.precision.plan(quantization, ["unused", "1"])
    quantize_plan = Plan({"1": widths.layers["1"]}, widths.rest_bits)
    network[1].weight.data = torch.tensor([[0.5, -1.0, 0.1], [9.0, -9.0, 0.26]])
    network[1].bias.data = torch.tensor([0.1, 0.2])
    insert(network, quantize_plan)
    network[1].weight_quantizer.set_scale(torch.tensor([0.25, 0.5]))
    network[1].input_quantizer.set_scale(torch.tensor([1e-9]))
    tensors = stored.store(network, quantize_plan)
    assert tensors["1.weight"].tolist() == [[2, -4, 0], [7, -8, 1]]
    assert tensors["1.weight_scale"].tolist() == [0.25, 0.5]
    assert tensors["1.input_scale"].item() == quantizers.SMALLEST_SCALE
    assert torch.equal(tensors["1.bias"], torch.tensor([0.1, 0.2]).half())
