"""The description of what is shipped, by hand and against all that reads it."""

from __future__ import annotations

import random
from typing import get_args

import pytest
import torch
from candidates import random_candidate, reshape
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.compression.graph import fold
from micronet_search.compression.pruning import prune
from micronet_search.compression.quantization import calibrate, insert
from micronet_search.compression.quantizers import bounds
from micronet_search.config.candidate import Candidate
from micronet_search.network.precision import Plan, Precision
from micronet_search.network.tensors import (
    Role,
    TensorSpec,
    layer_specs,
    tensors_of,
)

DRAWS = 36
"""Of all families together, for the test of one."""


@pytest.mark.parametrize(
    ("precision", "rest", "expected"),
    [
        pytest.param(
            Precision(32, 32),
            32,
            [("weight", (6, 2, 3, 3), 32, torch.float32), ("bias", (6,), 32, torch.float32)],
            id="single",
        ),
        pytest.param(
            Precision(16, 16),
            16,
            [("weight", (6, 2, 3, 3), 16, torch.float16), ("bias", (6,), 16, torch.float16)],
            id="half",
        ),
        pytest.param(
            Precision(3, 8),
            16,
            [
                ("weight", (6, 2, 3, 3), 3, torch.int8),
                ("bias", (6,), 16, torch.float16),
                ("weight_scale", (6,), 16, torch.float16),
                ("input_scale", (1,), 16, torch.float16),
            ],
            id="integers",
        ),
        pytest.param(
            Precision(1, 8, dynamic=True),
            16,
            [
                ("weight", (6, 2, 3, 3), 1, torch.int8),
                ("bias", (6,), 16, torch.float16),
                ("weight_scale", (6,), 16, torch.float16),
            ],
            id="dynamic-signs",
        ),
        pytest.param(
            Precision(32, 8),
            16,
            [
                ("weight", (6, 2, 3, 3), 32, torch.float32),
                ("bias", (6,), 16, torch.float16),
                ("input_scale", (1,), 16, torch.float16),
            ],
            id="integer-inputs",
        ),
    ],
)
def test_a_convolution_by_hand(
    precision: Precision, rest: int, expected: list[tuple[Role, tuple[int, ...], int, torch.dtype]]
) -> None:
    conv = nn.Conv2d(4, 6, 3, groups=2)
    found = layer_specs("a.conv", conv, Plan({"a.conv": precision}, rest))
    assert [(t.role, t.shape, t.bits, t.dtype) for t in found] == expected
    assert [t.name for t in found] == [f"a.conv.{role}" for role, *_ in expected]
    assert found[0].elements == 108


def test_a_norm_keeps_two_values_a_channel_and_a_relu_nothing() -> None:
    plan = Plan({}, 16)
    assert layer_specs("norm", nn.BatchNorm2d(5), plan) == (
        TensorSpec("norm", "weight", (5,), 16),
        TensorSpec("norm", "bias", (5,), 16),
    )
    assert layer_specs("relu", nn.ReLU(), plan) == ()


def test_the_tensors_of_a_layer_are_its_own() -> None:
    tensors = {"a.weight": 1, "a.bias": 2, "a.b.weight": 3, "a.b.weight_scale": 4, "b.bias": 5}
    assert tensors_of("a", tensors) == {"weight": 1, "bias": 2}
    assert tensors_of("a.b", tensors) == {"weight": 3, "weight_scale": 4}
    assert tensors_of("c", tensors) == {}


def trained(asked: Candidate) -> tuple[nn.Sequential, Plan]:
    """A network as a trial leaves it, but for the values of its weights."""
    network = build.network(asked)
    reshape(network, asked)
    prune(network, 0.4)
    plan = build.plan(asked, network)
    insert(network, plan)
    if plan.integer:
        calibrate(network, [torch.randn(4, 3, 8, 8)])
    fold(network, plan)
    return network, plan


def specified(network: nn.Module, plan: Plan) -> dict[str, TensorSpec]:
    modules = network.named_modules()
    return {t.name: t for name, module in modules for t in layer_specs(name, module, plan)}


def kinds(tensors: dict[str, Tensor]) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    return {name: (tuple(t.shape), t.dtype) for name, t in tensors.items()}


@pytest.mark.parametrize("family", ["densenet", "resnet", "efficientnet"])
def test_all_that_read_the_description_agree(family: str) -> None:
    """Names, shapes, types and bits, for random candidates with every technique."""
    rng, seen = random.Random(f"{family} 2"), set[Role]()
    torch.manual_seed(0)
    drawn = [random_candidate(rng) for _ in range(DRAWS)]
    for asked in (candidate for candidate in drawn if candidate.network.family == family):
        network, plan = trained(asked)
        specs = specified(network, plan)
        seen |= {t.role for t in specs.values()}

        tensors = stored.store(network, plan)
        assert kinds(tensors) == {name: (t.shape, t.dtype) for name, t in specs.items()}
        assert kinds(tensors) == kinds(build.layout(asked))
        cost = build.predict(asked).measured(tensors)
        assert {t.name: (t.shape, t.dtype, t.bits) for t in cost.stored} == {
            name: (t.shape, t.dtype, t.bits) for name, t in specs.items()
        }
        for name, t in specs.items():
            if t.dtype == torch.int8:
                low, high = bounds(t.bits, signed=True)
                assert low <= tensors[name].min()
                assert tensors[name].max() <= high
            else:
                assert t.bits == 8 * tensors[name].element_size()

        shipped, _ = build.compressed(asked)
        assert specified(shipped, plan) == specs
        stored.install(shipped, tensors)
        again = stored.store(shipped, plan)
        assert again.keys() == tensors.keys()
        assert all(torch.equal(again[name], t) for name, t in tensors.items())
    assert seen == set(get_args(Role))
