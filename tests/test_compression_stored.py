"""What is stored is what is computed with."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import prune, quantize, stored
from micronet_search.config.candidate import Candidate
from micronet_search.score.precision import Plan

WIDTHS = pytest.mark.parametrize(
    "quantization",
    [
        pytest.param(None, id="single"),
        pytest.param({"weight_bits": 16, "activation_bits": 16}, id="half"),
        pytest.param({"weight_bits": 8, "activation_bits": 8}, id="8-8"),
        pytest.param({"weight_bits": 4, "activation_bits": 8}, id="4-8"),
        pytest.param({"weight_bits": 2, "activation_bits": 4}, id="2-4"),
        pytest.param({"weight_bits": 4, "activation_bits": 32}, id="4-32"),
        pytest.param({"weight_bits": 16, "activation_bits": 8}, id="16-8"),
        pytest.param(
            {
                "weight_bits": 3,
                "activation_bits": 16,
                "first": {"weight_bits": 8, "activation_bits": 4},
                "last": {"weight_bits": 32},
            },
            id="mixed",
        ),
    ],
)


def candidate(quantization: dict[str, Any] | None) -> Candidate:
    return Candidate.model_validate(
        {
            "network": {
                "family": "densenet",
                "stem": {"width": 8},
                "growth_rate": 4,
                "layers": [1, 1],
                "bottleneck": 2,
            },
            "training": {"epochs": 1, "learning_rate": 0.1},
            "quantization": quantization,
        }
    )


def trained(asked: Candidate) -> tuple[nn.Sequential, Plan]:
    """As if trained: norms that do something, a third of the weights zero, scales calibrated."""
    torch.manual_seed(0)
    network = build.network(asked)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            module.weight.data.uniform_(0.5, 2.0)
            module.bias.data.normal_()
    prune.prune(network, 0.33)
    widths = build.plan(asked, network)
    quantize.insert(network, widths)
    if widths.integer:
        quantize.calibrate(network, [torch.randn(16, 3, 32, 32)])
    return network.eval(), widths


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(
        first[name].dtype == second[name].dtype and torch.equal(first[name], second[name])
        for name in first
    )


@WIDTHS
def test_stored_and_installed_it_stores_the_same(quantization: dict[str, Any] | None) -> None:
    network, widths = trained(candidate(quantization))
    tensors = stored.store(network, widths)
    stored.install(network, tensors)
    assert equal(stored.store(network, widths), tensors)


@WIDTHS
def test_a_fresh_network_computes_with_them_what_the_trained_one_did(
    quantization: dict[str, Any] | None,
) -> None:
    asked = candidate(quantization)
    network, widths = trained(asked)
    image = torch.randn(4, 3, 32, 32)
    before = network(image)
    tensors = stored.store(network, widths)
    stored.install(network, tensors)
    fresh, _ = build.compressed(asked)
    stored.install(fresh, tensors)
    assert torch.equal(fresh(image), network(image))
    # what is lost is the half precision of scales, biases and norms, and steps that it tips
    assert (network(image) - before).norm() < 0.05 * before.norm()


@WIDTHS
def test_shapes_and_types_are_what_the_cost_promised(
    quantization: dict[str, Any] | None,
) -> None:
    asked = candidate(quantization)
    tensors = stored.store(*trained(asked))
    width_of = {torch.float32: 32, torch.float16: 16}
    promised = {t.name: t for t in build.predict(asked).stored}
    assert tensors.keys() == promised.keys()
    for name, tensor in tensors.items():
        assert tensor.numel() == promised[name].elements
        if tensor.dtype == torch.int8:
            bits = promised[name].bits
            assert -(2 ** (bits - 1)) <= tensor.min()
            assert tensor.max() <= 2 ** (bits - 1) - 1
        else:
            assert width_of[tensor.dtype] == promised[name].bits


def test_integers_and_scales_by_hand() -> None:
    network = nn.Sequential(nn.ReLU(), nn.Linear(3, 2))
    quantization = candidate({"weight_bits": 4, "activation_bits": 8}).quantization
    widths = build.precision.plan(quantization, ["unused", "1"])
    quantize_plan = Plan({"1": widths.layers["1"]}, widths.rest_bits)
    network[1].weight.data = torch.tensor([[0.5, -1.0, 0.1], [9.0, -9.0, 0.26]])
    network[1].bias.data = torch.tensor([0.1, 0.2])
    quantize.insert(network, quantize_plan)
    network[1].weight_quantizer.set_scale(torch.tensor([0.25, 0.5]))
    network[1].input_quantizer.set_scale(torch.tensor([1e-9]))
    tensors = stored.store(network, quantize_plan)
    assert tensors["1.weight"].tolist() == [[2, -4, 0], [7, -8, 1]]
    assert tensors["1.weight_scale"].tolist() == [0.25, 0.5]
    assert tensors["1.input_scale"].item() == quantize.SMALLEST_SCALE
    assert torch.equal(tensors["1.bias"], torch.tensor([0.1, 0.2]).half())
