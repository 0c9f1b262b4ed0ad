"""The layer table, against counts by hand and by torch's own counter."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from micronet_search.config.compression import Quantization
from micronet_search.config.model import Bits
from micronet_search.config.network import Input
from micronet_search.network.layers import Add, Scale
from micronet_search.network.precision import layers_of, plan
from micronet_search.score.cost import Cost, Stored, count


def network() -> nn.Sequential:
    """Strides, groups, a bias, pooling and a linear layer."""
    with torch.device("meta"):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 12, (1, 3), groups=4, padding=(0, 1)),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(12, 5),
        )


def counted(quantization: Quantization | None = None, sparsity: float = 0.0) -> Cost:
    built = network()
    widths = plan(quantization, layers_of(built))
    zeros = dict.fromkeys(widths.layers, sparsity)
    return count(built, Input(height=16, width=12), widths, sparsity=zeros, parameters=0)


def test_macs_are_half_of_what_torch_counts() -> None:
    with FlopCounterMode(display=False) as counter:
        network().eval()(torch.zeros(1, 3, 16, 12, device="meta"))
    assert counted().macs * 2 == counter.get_total_flops()


def test_rows_by_hand() -> None:
    rows = [(r.name, r.kind, r.elements, r.macs, r.outputs, r.window) for r in counted().layers]
    assert rows == [
        ("0", "conv", 216, 216 * 48, 8 * 48, 1),
        ("1", "norm", 16, 0, 8 * 48, 1),
        ("2", "relu", 0, 0, 8 * 48, 1),
        ("3", "pool", 0, 0, 8 * 12, 4),
        ("4", "conv", 72 + 12, 72 * 12, 12 * 12, 1),
        ("5", "pool", 0, 0, 12, 12),
        ("7", "linear", 60 + 5, 60, 5, 1),
    ]


def test_totals_by_hand() -> None:
    stored = 216 + 16 + 84 + 65
    macs = 216 * 48 + 72 * 12 + 60
    expected = {"parameters": 0, "nonzeros": stored, "macs": macs, "storage_bits": 32 * stored}
    assert counted().totals() == expected


@pytest.mark.parametrize(
    ("weights", "activations", "expected"),
    [
        pytest.param(32, 32, {"4.weight": (72, 32), "4.bias": (12, 32)}, id="single"),
        pytest.param(16, 16, {"4.weight": (72, 16), "4.bias": (12, 16)}, id="half"),
        pytest.param(
            4,
            32,
            {"4.weight": (72, 4), "4.bias": (12, 16), "4.weight_scale": (12, 16)},
            id="integer-weights",
        ),
        pytest.param(
            16,
            8,
            {"4.weight": (72, 16), "4.bias": (12, 16), "4.input_scale": (1, 16)},
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
    built = network()
    widths, image = plan(None, layers_of(built)), Input(height=16, width=12)
    cost = count(built, image, widths, sparsity={"4": 0.25, "7": 1.0}, parameters=0)
    nonzeros = {t.name: t.nonzeros for t in cost.stored if t.name.endswith("weight")}
    assert nonzeros == {"0.weight": 216, "1.weight": 8, "4.weight": 54, "7.weight": 0}


def test_sparsity_is_rounded_down_in_each_layer() -> None:
    nonzeros = {t.name: t.nonzeros for t in counted(sparsity=0.5).stored}
    assert nonzeros["0.weight"] == 108
    assert nonzeros["1.weight"] == 8
    assert nonzeros["4.weight"] == 36
    assert counted(sparsity=0.99).layers[-1].stored[0].nonzeros == 60 - 59


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


class Gated(nn.Module):
    """Whatever costs something and stores nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 1, bias=False)
        self.silu, self.hard_swish = nn.SiLU(), nn.Hardswish()
        self.add, self.pool = Add(), nn.AdaptiveAvgPool2d(1)
        self.sigmoid, self.hard_sigmoid, self.scale = nn.Sigmoid(), nn.Hardsigmoid(), Scale()

    def forward(self, image: Tensor) -> Tensor:
        image = self.stem(image)
        image = self.add(self.silu(image), self.hard_swish(image))
        gate = self.hard_sigmoid(self.sigmoid(self.pool(image)))
        scaled: Tensor = self.scale(image, gate)
        return scaled


def test_rows_without_weights_by_hand() -> None:
    with torch.device("meta"):
        gated = Gated()
    widths = plan(Quantization(weight_bits=4, activation_bits=8), layers_of(gated))
    cost = count(gated, Input(height=3, width=2), widths, sparsity={}, parameters=0)
    rows = [(r.name, r.kind, r.elements, r.bits, r.macs, r.outputs) for r in cost.layers[1:]]
    assert rows == [
        ("silu", "swish", 0, 16, 0, 24),
        ("hard_swish", "swish", 0, 16, 0, 24),
        ("add", "add", 0, 16, 0, 24),
        ("pool", "pool", 0, 16, 0, 4),
        ("sigmoid", "sigmoid", 0, 16, 0, 4),
        ("hard_sigmoid", "sigmoid", 0, 16, 0, 4),
        ("scale", "scale", 0, 16, 0, 24),
    ]


def test_a_layer_that_is_not_known_is_not_passed_over() -> None:
    built = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GELU())
    with pytest.raises(AssertionError, match="1: GELU"):
        count(built, Input(), plan(None, layers_of(built)), sparsity={}, parameters=0)


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


def test_counting_leaves_the_network_as_it_was() -> None:
    built = network()
    count(built, Input(), plan(None, layers_of(built)), sparsity={}, parameters=0)
    assert built.training
    assert not any(module._forward_hooks for module in built.modules())
