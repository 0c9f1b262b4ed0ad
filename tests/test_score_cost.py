"""The layer table, against counts by hand and by torch's own counter."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from micronet_search.config.compression import Quantization
from micronet_search.config.model import Bits
from micronet_search.config.network import Input
from micronet_search.network.layers import MEAN, RELU, Add, GlobalMean, Scale, convolution, norm
from micronet_search.network.parts import Composite, Part, chain
from micronet_search.network.precision import plan
from micronet_search.network.shapes import Passed, passes, weighted
from micronet_search.scoring.cost import Cost, Stored, count

NETWORK = chain(
    convolution(3, 8, 3, stride=2),
    norm(8),
    RELU,
    Part(nn.AvgPool2d, {"kernel_size": 2}),
    convolution(8, 12, 3, groups=4).changed(bias=True),
    MEAN,
    Part(nn.Flatten),
    Part(nn.Linear, {"in_features": 12, "out_features": 5, "bias": True}),
)
"""Strides, groups, a bias, pooling and a linear layer."""
IMAGE = Input(height=16, width=12)
LAYERS = passes(NETWORK, IMAGE)


def counted(
    quantization: Quantization | None = None, sparsity: Mapping[str, float] | None = None
) -> Cost:
    widths = plan(quantization, weighted(LAYERS))
    return count(LAYERS, widths, sparsity=sparsity or {}, folded={})


def test_macs_are_half_of_what_torch_counts() -> None:
    with FlopCounterMode(display=False) as counter:
        NETWORK.module().eval()(torch.zeros(1, 3, 16, 12))
    assert counted().macs * 2 == counter.get_total_flops()


def test_rows_by_hand() -> None:
    rows = [(r.name, r.kind, r.elements, r.macs, r.outputs, r.window) for r in counted().layers]
    assert rows == [
        ("0", "conv", 216, 216 * 48, 8 * 48, 1),
        ("1", "norm", 16, 0, 8 * 48, 1),
        ("2", "relu", 0, 0, 8 * 48, 1),
        ("3", "pool", 0, 0, 8 * 12, 4),
        ("4", "conv", 216 + 12, 216 * 12, 12 * 12, 1),
        ("5", "pool", 0, 0, 12, 12),
        ("7", "linear", 60 + 5, 60, 5, 1),
    ]


def test_totals_by_hand() -> None:
    stored = 216 + 16 + 228 + 65
    macs = 216 * 48 + 216 * 12 + 60
    expected = {"parameters": stored, "nonzeros": stored, "macs": macs, "storage_bits": 32 * stored}
    assert counted().totals() == expected


@pytest.mark.parametrize(
    ("weights", "activations", "expected"),
    [
        pytest.param(32, 32, {"4.weight": (216, 32), "4.bias": (12, 32)}, id="single"),
        pytest.param(16, 16, {"4.weight": (216, 16), "4.bias": (12, 16)}, id="half"),
        pytest.param(
            4,
            32,
            {"4.weight": (216, 4), "4.bias": (12, 16), "4.weight_scale": (12, 16)},
            id="integer-weights",
        ),
        pytest.param(
            16,
            8,
            {"4.weight": (216, 16), "4.bias": (12, 16), "4.input_scale": (1, 16)},
            id="integer-inputs",
        ),
    ],
)
def test_what_a_layer_stores(
    weights: int, activations: int, expected: dict[str, tuple[int, int]]
) -> None:
    quantization = Quantization.model_validate(
        {"weight_bits": weights, "activation_bits": activations}
    )
    found = {t.name: (t.elements, t.bits) for t in counted(quantization).layers[4].stored}
    assert found == expected


def test_the_image_takes_no_scale() -> None:
    quantization = Quantization(weight_bits=8, activation_bits=8)
    names = [t.name for t in counted(quantization).layers[0].stored]
    assert names == ["0.weight", "0.weight_scale"]


@pytest.mark.parametrize("activations", [2, 8, 16])
def test_inputs_that_are_scaled_as_they_pass_store_no_scale(activations: Bits) -> None:
    quantization = Quantization(mode="dynamic", weight_bits=4, activation_bits=activations)
    assert not [t.name for t in counted(quantization).stored if "input_scale" in t.name]


def test_each_layer_has_its_own_sparsity() -> None:
    cost = counted(sparsity={"4": 0.25, "7": 1.0})
    nonzeros = {t.name: t.nonzeros for t in cost.stored if t.name.endswith("weight")}
    assert nonzeros == {"0.weight": 216, "1.weight": 8, "4.weight": 162, "7.weight": 0}


def test_sparsity_is_rounded_down_in_each_layer() -> None:
    nonzeros = {t.name: t.nonzeros for t in counted(sparsity=dict.fromkeys("047", 0.3)).stored}
    assert nonzeros["0.weight"] == 216 - 64
    assert nonzeros["1.weight"] == 8
    assert nonzeros["4.weight"] == 216 - 64
    assert nonzeros["7.weight"] == 60 - 18  # although 0.3 * 60 is less than 18 as a float


@pytest.mark.parametrize(
    ("elements", "nonzeros", "bits", "expected"),
    [
        pytest.param(100, 100, 8, 800, id="dense"),
        pytest.param(100, 20, 8, 260, id="bitmask"),
        pytest.param(100, 75, 4, 400, id="dense-is-as-small"),
        pytest.param(100, 74, 4, 396, id="bitmask-is-smaller"),
        pytest.param(8, 0, 16, 8, id="mask-alone"),
        pytest.param(100, 100, 1, 100, id="signs"),
        # a sign has no third value, so it takes a mask to tell a single zero
        pytest.param(100, 99, 1, 199, id="signs-and-a-zero"),
        pytest.param(100, 20, 1, 120, id="few-signs"),
    ],
)
def test_storage_is_dense_or_a_bitmask(
    elements: int, nonzeros: int, bits: int, expected: int
) -> None:
    assert Stored("layer", "weight", (elements,), bits, nonzeros).storage_bits == expected


class Gated(Composite):
    """Whatever costs something and stores nothing."""

    def forward(self, image: Tensor) -> Tensor:
        image = self.stem(image)
        image = self.add(self.silu(image), self.hard_swish(image))
        gate = self.hard_sigmoid(self.sigmoid(self.pool(image)))
        scaled: Tensor = self.scale(image, gate)
        return scaled


def test_rows_without_weights_by_hand() -> None:
    kinds = {"silu": nn.SiLU, "hard_swish": nn.Hardswish, "add": Add, "pool": GlobalMean}
    kinds |= {"sigmoid": nn.Sigmoid, "hard_sigmoid": nn.Hardsigmoid, "scale": Scale}
    parts = {"stem": convolution(3, 4, 1)} | {name: Part(kind) for name, kind in kinds.items()}
    layers = passes(Part(Gated, children=parts), Input(height=3, width=2))
    widths = plan(Quantization(weight_bits=4, activation_bits=8), weighted(layers))
    cost = count(layers, widths, sparsity={}, folded={})
    rows = [(r.name, r.kind, r.elements, r.bits, r.macs, r.outputs) for r in cost.layers[1:]]
    assert rows == [
        ("silu", "swish", 0, 32, 0, 24),
        ("hard_swish", "swish", 0, 32, 0, 24),
        ("add", "add", 0, 32, 0, 24),
        ("pool", "pool", 0, 32, 0, 4),
        ("sigmoid", "sigmoid", 0, 32, 0, 4),
        ("hard_sigmoid", "sigmoid", 0, 32, 0, 4),
        ("scale", "scale", 0, 32, 0, 24),
    ]


def test_a_pool_averages_its_window_also_where_the_image_has_an_odd_side() -> None:
    parts = {"stem": convolution(3, 4, 1), "pool": Part(nn.AvgPool2d, {"kernel_size": 2})}
    layers = passes(Part(nn.Sequential, children=parts), Input(height=5, width=5))
    cost = count(layers, plan(None, weighted(layers)), sparsity={}, folded={})
    assert [(row.window, row.outputs) for row in cost.layers[1:]] == [(4, 16)]


def test_a_layer_that_is_not_known_is_not_passed_over() -> None:
    layers = [*LAYERS, Passed("8", Part(nn.GELU), (LAYERS[-1],), 5, 1, 1)]
    with pytest.raises(AssertionError, match="8: GELU"):
        count(layers, plan(None, weighted(layers)), sparsity={}, folded={})


def test_measured_counts_the_tensors_it_is_given() -> None:
    predicted = counted()
    tensors = {t.name: torch.ones(t.elements) for t in predicted.stored}
    assert predicted.measured(tensors) == predicted
    tensors["7.weight"][:10] = 0
    tensors["4.weight"][3] = -0.0
    assert predicted.measured(tensors).nonzeros == predicted.nonzeros - 11


def test_measured_refuses_other_tensors() -> None:
    predicted = counted()
    tensors = {t.name: torch.ones(t.elements) for t in predicted.stored}
    with pytest.raises(AssertionError, match=r"7\.bias"):
        predicted.measured({name: t for name, t in tensors.items() if name != "7.bias"})
