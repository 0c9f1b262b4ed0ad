"""Networks in ONNX files: ours score as they did when they ended, others as counted by hand."""

from __future__ import annotations

import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision
from exports import COLOUR, DENSENET, DIGITS, EFFICIENTNET, RESNET, random_shipped, widths
from graphs import Array, floats, node, save
from ml_dtypes import int4
from onnx import NodeProto, TensorProto
from onnxruntime import quantization
from torch import nn

from micronet_search import build
from micronet_search.config.files import read_candidate
from micronet_search.config.network import Input
from micronet_search.runtime import onnx_model
from micronet_search.scoring.cost import Cost, Layer
from micronet_search.scoring.graphs.measure import Measured, measure
from micronet_search.scoring.rules import imt, scores

SEPARABLE = {"convolution": "separable"}
SILU, HARD_SWISH = {"activation": "silu"}, {"activation": "hard-swish"}
THIN = {"structured_pruning": {"ratio": 0.4}}
SVD = {"factorization": {"kind": "svd", "ratio": 0.4}}
TUCKER = {"factorization": {"kind": "tucker", "ratio": 0.5}}
MIXED = {"block1": widths(2, 4), "block2": widths(16, 16)}


def dynamic(weight: int, activation: int, **parts: Any) -> dict[str, Any]:
    return widths(weight, activation, mode="dynamic", **parts)


OWN: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    "densenet": (DENSENET, None, {}),
    "densenet, 16 bits": (DENSENET | SEPARABLE, widths(16, 16), THIN),
    "densenet, 1/4": (DENSENET, widths(1, 4), {}),
    "densenet, 3/5": (DENSENET | {"groups": [2, 3]}, widths(3, 5), {}),
    "densenet, dynamic 2/3, image of 4": (DENSENET, dynamic(2, 3, first=widths(8, 4)), {}),
    "densenet, 16/3": (DENSENET, widths(16, 3), TUCKER),
    "densenet, 4/32": (DENSENET, widths(4, 32), {}),
    "densenet, last at 16": (DENSENET, widths(8, 8, last=widths(16, 8)), SVD),
    "resnet": (RESNET | {"layer": "bottleneck"}, None, {}),
    "resnet, 1/8": (RESNET, dynamic(1, 8), {}),
    "resnet, 5/7": (RESNET | SEPARABLE, widths(5, 7), {}),
    "resnet, 32/16": (RESNET, widths(32, 16), {}),
    "resnet, 16/32": (RESNET, widths(16, 32), {}),
    "resnet, wide, 3/8": (RESNET | {"widths": [64, 64], "layers": 1}, widths(3, 8), {}),
    "resnet, mixed": (RESNET, dynamic(4, 8, blocks=MIXED), {}),
    "resnet, nothing between, 4/4": (
        RESNET | SEPARABLE | {"between": "nothing"},
        widths(4, 4),
        SVD,
    ),
    "resnet, norm between, 7/6": (RESNET | SEPARABLE | {"between": "norm"}, widths(7, 6), {}),
    "efficientnet, 6/2": (EFFICIENTNET, widths(6, 2), {}),
    "efficientnet, silu, 16 bits": (EFFICIENTNET | SILU, widths(16, 16), {}),
    "efficientnet, silu, mixed": (EFFICIENTNET | SILU, widths(4, 8, blocks=MIXED), {}),
    "efficientnet, hard-swish, dynamic": (EFFICIENTNET | HARD_SWISH, dynamic(8, 8), THIN | SVD),
    "efficientnet, fused, 32/5": (
        EFFICIENTNET | HARD_SWISH | {"convolution": "plain"},
        widths(32, 5),
        TUCKER,
    ),
}


def rows(cost: Cost) -> list[Any]:
    return [
        (
            (row.name, row.kind, row.weight_bits, row.activation_bits),
            (row.macs, row.outputs, row.window),
            sorted((t.role, t.elements, t.bits, t.nonzeros) for t in row.stored),
        )
        for row in cost.layers
    ]


def by_kind(cost: Cost) -> list[tuple[str, int]]:
    return [(row.kind, row.outputs) for row in cost.layers]


def stored(row: Layer) -> dict[str, tuple[int, int, int]]:
    return {t.role: (t.elements, t.bits, t.nonzeros) for t in row.stored}


@pytest.mark.parametrize("name", OWN)
def test_an_export_has_the_table_of_its_trial(name: str, tmp_path: Path) -> None:
    network, quantization, parts = OWN[name]
    shipped = random_shipped(quantization, COLOUR, network, **parts)
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.write(shipped, {}))
    found, expected = measure(path), build.predict(shipped.candidate).measured(shipped.tensors)
    assert rows(found.cost) == rows(expected)
    assert scores(found.cost) == scores(expected)
    assert found.cost.integer == expected.integer
    assert not found.uncounted


def test_a_width_that_onnx_has_no_type_for_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.write(random_shipped(widths(3, 8), DIGITS, RESNET), {}))
    model = onnx.load(path)
    claims = [n.metadata_props for n in model.graph.node if n.metadata_props]
    assert {(c.key, c.value) for found in claims for c in found} == {("bits", "3")}
    for found in claims:
        del found[:]
    onnx.save(model, path)
    assert {row.weight_bits for row in measure(path).cost.layers if row.macs} == {4}
    for claim in ("2", "0", "9", "-3", "three"):
        del claims[0][:]
        claims[0].add(key="bits", value=claim)
        onnx.save(model, path)
        with pytest.raises(ValueError, match=f"does not have the {claim} bits that its metadata"):
            measure(path)


# --- networks made elsewhere ---


def resnet18() -> nn.Module:
    """Torchvision's, with the stem of CIFAR, and no two norms alike."""
    torch.manual_seed(0)
    found = torchvision.models.resnet18(num_classes=10)
    found.conv1, found.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    for module in found.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return found.eval()


@pytest.mark.parametrize("folded", [False, True])
def test_the_resnet18_of_torchvision(folded: bool, tmp_path: Path) -> None:
    path, training = tmp_path / "model.onnx", torch.onnx.TrainingMode
    with warnings.catch_warnings(action="ignore"):
        torch.onnx.export(
            resnet18(),
            (torch.zeros(1, 3, 32, 32),),
            str(path),
            input_names=["x"],
            dynamic_axes={"x": {0: "batch"}},
            training=training.EVAL if folded else training.PRESERVE,
            do_constant_folding=folded,
            dynamo=False,
        )
    cost = measure(path).cost
    assert cost.macs == 555_422_720
    # the norms of 4,800 channels become biases
    assert cost.parameters == cost.nonzeros == 11_173_962 - folded * 4_800
    assert imt(cost).parameters + imt(cost).operations == pytest.approx(
        2 * 1.98950 - folded * 4_800 / 5.6e6, abs=1e-5
    )
    if not folded:
        network = {"family": "resnet", "stem": {"width": 64}, "widths": [64, 128, 256, 512]}
        tree = {"network": network | {"layers": 2}, "training": {"epochs": 1, "learning_rate": 1}}
        assert scores(cost) == scores(build.predict(read_candidate(tree, Input(), 10)))


SMALL_FLOAT = [
    node("Conv", "x w1 b1", "c1", pads=[1, 1, 1, 1]),
    node("Relu", "c1", "r1"),
    node("Conv", "r1 w2 b2", "c2", pads=[1, 1, 1, 1], group=2),
    node("Add", "c2 r1", "s"),
    node("GlobalAveragePool", "s", "g"),
    node("Flatten", "g", "f"),
    node("Gemm", "f w3 b3", "y", transB=1),
]
SMALL_TENSORS = {
    "w1": floats(4, 3, 3, 3, seed=1),
    "b1": floats(4, seed=2),
    "w2": floats(4, 2, 3, 3, seed=3),
    "b2": floats(4, seed=4),
    "w3": floats(5, 4, seed=5),
    "b3": floats(5, seed=6),
}


class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.batches = iter([{"x": floats(4, 3, 8, 8, seed=seed)} for seed in range(3)])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.batches, None)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("weights", ["QInt8", "QUInt8"])
def test_the_quantizer_of_onnx_runtime(tmp_path: Path, weights: str, per_channel: bool) -> None:
    source = save(tmp_path / "float.onnx", SMALL_FLOAT, SMALL_TENSORS)
    path = tmp_path / "model.onnx"
    quantization.quantize_static(
        str(source),
        str(path),
        Reader(),
        quant_format=quantization.QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType[weights],
    )
    found = measure(path)
    assert not found.uncounted
    products = [row for row in found.cost.layers if row.macs]
    assert [row.macs for row in products] == [4 * 27 * 64, 4 * 18 * 64, 20]
    assert {(row.weight_bits, row.activation_bits) for row in products} == {(8, 8)}
    assert found.cost.integer
    for row, channels, weights_of in zip(products, (4, 4, 5), ("w1", "w2", "w3"), strict=True):
        has = stored(row)
        assert has["weight"][:2] == (SMALL_TENSORS[weights_of].size, 8)
        assert has["bias"][:2] == (channels, 32)
        assert has["weight_scale"][0] in ((channels, 1) if per_channel else (1,))
        assert "input_scale" in has
    # half of the range of the weights, in 127 or 255 steps, is lost at zero
    if weights == "QInt8" and not per_channel:
        step = np.abs(SMALL_TENSORS["w1"]).max() / 127
        nonzeros = int((np.abs(SMALL_TENSORS["w1"]) > step / 2).sum())
        assert stored(products[0])["weight"] == (108, 8, nonzeros)


def test_brevitas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its exporter asks for a package with optimizations, which may be none."""
    package = types.ModuleType("onnxoptimizer")
    package.__dict__.update(optimize=lambda model, passes: model, get_available_passes=list)
    monkeypatch.setitem(sys.modules, "onnxoptimizer", package)
    from brevitas import nn as qnn
    from brevitas.export import export_onnx_qcdq

    torch.manual_seed(0)
    network = nn.Sequential(
        qnn.QuantIdentity(return_quant_tensor=True),
        qnn.QuantConv2d(3, 8, 3, padding=1, bias=False, weight_bit_width=3),
        nn.BatchNorm2d(8),
        qnn.QuantReLU(bit_width=4, return_quant_tensor=True),
        qnn.QuantConv2d(8, 8, 3, padding=1, groups=8, weight_bit_width=4),
        qnn.QuantReLU(bit_width=6, return_quant_tensor=True),
        nn.Flatten(),
        qnn.QuantLinear(512, 10, bias=True, weight_bit_width=5),
    ).eval()
    network(torch.randn(4, 3, 8, 8))
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings(action="ignore"):
        export_onnx_qcdq(
            network, torch.randn(1, 3, 8, 8), str(path), opset_version=13, dynamo=False
        )
    found = measure(path)
    assert not found.uncounted
    assert [
        (row.kind, row.weight_bits, row.activation_bits, row.macs) for row in found.cost.layers
    ] == [
        ("conv", 3, 8, 216 * 64),
        ("norm", 32, 32, 0),
        ("relu", 32, 32, 0),
        ("conv", 4, 4, 72 * 64),
        ("relu", 32, 32, 0),
        ("linear", 5, 6, 5120),
    ]
    weights = [m.quant_weight().int() for m in network if hasattr(m, "quant_weight")]
    counted = [stored(row)["weight"][2] for row in found.cost.layers if row.macs]
    assert counted == [int(w.count_nonzero()) for w in weights]


# --- what a file may hold, one thing at a time ---

CONV = node("Conv", "a w", "y", pads=[1, 1, 1, 1])
INT8 = np.arange(-54, 54, dtype=np.int8).reshape(4, 3, 3, 3)  # a zero among 108
SCALE, SCALES = np.float32(0.1), np.linspace(0.1, 0.4, 4, dtype=np.float32)
HALF = np.float32(0.125)
ZERO = np.int8(0)

WEIGHTS: dict[str, tuple[list[NodeProto], dict[str, Array], dict[str, tuple[int, int, int]]]] = {
    "floats": ([], {"w": floats(4, 3, 3, 3)}, {"weight": (108, 32, 108)}),
    "half": (
        [node("Cast", "h", "w", to=TensorProto.FLOAT)],
        {"h": floats(4, 3, 3, 3, kind=np.float16)},
        {"weight": (108, 16, 108)},
    ),
    "rounded to half": (
        [node("Cast", "h", "g", to=TensorProto.FLOAT16), node("Cast", "g", "w", to=1)],
        {"h": floats(4, 3, 3, 3) * np.float32(1e-8)},  # the smallest half is 6e-8
        {"weight": (108, 16, int((np.abs(floats(4, 3, 3, 3)) > 2.98).sum()))},
    ),
    "int8": (
        [node("DequantizeLinear", "i s", "w")],
        {"i": INT8, "s": SCALE},
        {"weight": (108, 8, 107), "weight_scale": (1, 32, 1)},
    ),
    "a scale of half precision": (
        [node("DequantizeLinear", "i s", "w")],
        {"i": INT8, "s": HALF},
        {"weight": (108, 8, 107), "weight_scale": (1, 16, 1)},
    ),
    "int4 by channel": (
        [node("DequantizeLinear", "i s", "w", axis=0)],
        {"i": np.clip(INT8, -8, 7).astype(int4), "s": SCALES},
        {"weight": (108, 4, 107), "weight_scale": (4, 32, 4)},
    ),
    "a zero point": (
        [node("DequantizeLinear", "i s z", "w")],
        {"i": INT8.astype(np.uint8), "s": SCALE, "z": np.uint8(3)},
        {"weight": (108, 8, 107), "weight_scale": (1, 8, 1)},  # the last of two
    ),
    "zero points by channel": (
        [node("DequantizeLinear", "i s z", "w", axis=0)],
        {"i": INT8, "s": SCALES, "z": np.array([-54, 0, 0, 27], np.int8)},
        {"weight": (108, 8, 105), "weight_scale": (4, 8, 2)},
    ),
    "in blocks": (
        [node("DequantizeLinear", "i s", "w", axis=0, block_size=2)],
        {"i": INT8, "s": floats(2, 3, 3, 3)},
        {"weight": (108, 8, 107), "weight_scale": (54, 32, 54)},
    ),
    "floats that are rounded": (
        [node("QuantizeLinear", "f s z", "q"), node("DequantizeLinear", "q s z", "w")],
        {"f": floats(4, 3, 3, 3), "s": SCALE, "z": ZERO},
        {
            "weight": (108, 8, int((np.abs(floats(4, 3, 3, 3)) > 0.05).sum())),
            "weight_scale": (1, 32, 1),
        },
    ),
    "clipped between": (
        [
            node("QuantizeLinear", "f s z", "q"),
            node("Clip", "q low high", "c"),
            node("DequantizeLinear", "c s z", "w"),
        ],
        {
            "f": floats(4, 3, 3, 3),
            "s": SCALE,
            "z": ZERO,
            "low": np.int8(-7),
            "high": np.int8(7),
        },
        {
            "weight": (108, 4, int((np.abs(floats(4, 3, 3, 3)) > 0.05).sum())),
            "weight_scale": (1, 32, 1),
        },
    ),
    "integers that are clipped": (
        [node("Clip", "i low high", "c"), node("DequantizeLinear", "c s", "w")],
        {"i": INT8, "s": SCALE, "low": np.int8(-1), "high": np.int8(1)},
        {"weight": (108, 2, 107), "weight_scale": (1, 32, 1)},
    ),
    "in another order": (
        [
            node("DequantizeLinear", "i s", "d", axis=3),
            node("Transpose", "d", "w", perm=[3, 0, 1, 2]),
        ],
        {"i": np.ascontiguousarray(INT8.transpose(1, 2, 3, 0)), "s": SCALES},
        {"weight": (108, 8, 107), "weight_scale": (4, 32, 4)},
    ),
    "a constant": (
        [node("Constant", "", "w", value=onnx.numpy_helper.from_array(floats(4, 3, 3, 3)))],
        {},
        {"weight": (108, 32, 108)},
    ),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_in_every_form(name: str, tmp_path: Path) -> None:
    nodes, tensors, expected = WEIGHTS[name]
    nodes = [*nodes, node("Identity", "x", "a"), CONV]
    found = measure(save(tmp_path / "model.onnx", nodes, tensors, output=(1, 4)))
    (row,) = found.cost.layers
    assert stored(row) == expected
    assert (row.macs, row.outputs) == (108 * 64, 4 * 64)
    assert found.cost.integer == ("weight_scale" in expected)


U8 = np.uint8(0)
INPUTS: dict[str, tuple[list[NodeProto], int, int, int]] = {
    # nodes from x to a, type of the input, width and stored elements of the layer's input
    "floats": ([node("Identity", "x", "a")], TensorProto.FLOAT, 32, 0),
    "half": (
        [node("Cast", "x", "b", to=TensorProto.FLOAT16), node("Cast", "b", "a", to=1)],
        TensorProto.FLOAT,
        16,
        0,
    ),
    "bytes": (
        [node("Cast", "x", "b", to=1), node("Sub", "b three", "c"), node("Mul", "c s", "a")],
        TensorProto.UINT8,
        8,
        0,
    ),
    "bytes by way of int32": (
        [node("Cast", "x", "b", to=TensorProto.INT32), node("Cast", "b", "a", to=1)],
        TensorProto.UINT8,
        8,
        0,
    ),
    "dequantized bytes": ([node("DequantizeLinear", "x s u8", "a")], TensorProto.UINT8, 8, 0),
    "8 bits": (
        [node("QuantizeLinear", "x s u8", "b"), node("DequantizeLinear", "b s u8", "a")],
        TensorProto.FLOAT,
        8,
        1,
    ),
    "8 bits about a zero point": (
        [node("QuantizeLinear", "x s z3", "b"), node("DequantizeLinear", "b s z3", "a")],
        TensorProto.FLOAT,
        8,
        2,
    ),
    "clipped before": (
        [
            node("Clip", "x low high", "b"),
            node("QuantizeLinear", "b s i8", "c"),
            node("DequantizeLinear", "c s i8", "a"),
        ],
        TensorProto.FLOAT,
        4,
        1,
    ),
    "clipped after": (
        [
            node("QuantizeLinear", "x s i8", "b"),
            node("DequantizeLinear", "b s i8", "c"),
            node("Clip", "c low high", "a"),
        ],
        TensorProto.FLOAT,
        4,
        1,
    ),
    "clipped between": (
        [
            node("QuantizeLinear", "x s u8", "b"),
            node("Clip", "b u8 three8", "c"),
            node("DequantizeLinear", "c s u8", "a"),
        ],
        TensorProto.FLOAT,
        2,
        1,
    ),
    "moved about": (
        [
            node("QuantizeLinear", "x s u8", "b"),
            node("DequantizeLinear", "b s u8", "c"),
            node("MaxPool", "c", "d", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
            node("Relu", "d", "a"),
        ],
        TensorProto.FLOAT,
        8,
        1,
    ),
    "in its own range": (
        [
            node("DynamicQuantizeLinear", "x", "b"),
            node("DequantizeLinear", "b t v", "a"),
        ],
        TensorProto.FLOAT,
        8,
        0,
    ),
}
INPUTS["in its own range"][0][0].output.extend(["t", "v"])
CONSTANTS = {
    "w": floats(4, 3, 3, 3),
    "s": SCALE,
    "u8": U8,
    "i8": ZERO,
    "z3": np.uint8(3),
    "three8": np.uint8(3),
    "three": np.float32(3),
    "low": np.float32(-0.8),
    "high": np.float32(0.7),
}


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_in_every_form(name: str, tmp_path: Path) -> None:
    nodes, kind, bits, elements = INPUTS[name]
    path = save(tmp_path / "model.onnx", [*nodes, CONV], CONSTANTS, kind=kind, output=(1, 4))
    found = measure(path)
    (row,) = [row for row in found.cost.layers if row.macs]
    assert row.activation_bits == bits
    assert sum(t.elements for t in found.cost.stored if t.role == "input_scale") == elements
    assert found.cost.integer == (elements > 0 or "own range" in name)
    assert any("the image has" in note for note in found.notes) == (bits > 8)


REST: dict[str, tuple[list[NodeProto], list[tuple[str, int]]]] = {
    "relu": ([node("Relu", "a", "y")], [("relu", 256)]),
    "relu6": ([node("Clip", "a nought six", "y")], [("relu", 256)]),
    "half of a clip": ([node("Clip", "a nought", "y")], [("relu", 256)]),
    "bound": ([node("Max", "a nought", "y")], [("relu", 256)]),
    "leaky": ([node("LeakyRelu", "a", "y")], [("relu", 256)]),
    "sigmoid": ([node("Sigmoid", "a", "y")], [("sigmoid", 256)]),
    "hard sigmoid": ([node("HardSigmoid", "a", "y")], [("sigmoid", 256)]),
    "hard swish": ([node("HardSwish", "a", "y")], [("swish", 256)]),
    "silu": ([node("Sigmoid", "a", "b"), node("Mul", "a b", "y")], [("swish", 256)]),
    "silu, turned": ([node("Sigmoid", "a", "b"), node("Mul", "b a", "y")], [("swish", 256)]),
    "a gate of something else": (
        [node("Relu", "a", "r"), node("Sigmoid", "r", "b"), node("Mul", "a b", "y")],
        [("relu", 256), ("sigmoid", 256), ("scale", 256)],
    ),
    "a gate that is read twice": (
        [node("Sigmoid", "a", "b"), node("Mul", "a b", "c"), node("Add", "b c", "y")],
        [("sigmoid", 256), ("scale", 256), ("add", 256)],
    ),
    "sum": ([node("Relu", "a", "r"), node("Add", "a r", "y")], [("relu", 256), ("add", 256)]),
    "mean": ([node("GlobalAveragePool", "a", "y")], [("pool", 4)]),
    "mean over axes": (
        [node("ReduceMean", "a axes", "y", keepdims=1)],
        [("pool", 4)],
    ),
    "means of 2 x 2": (
        [node("AveragePool", "a", "y", kernel_shape=[2, 2], strides=[2, 2])],
        [("pool", 64)],
    ),
    "norm": ([node("BatchNormalization", "a k k k k4", "y")], [("norm", 256)]),
    "factor and summand": ([node("Mul", "a f", "b"), node("Add", "b f", "y")], [("norm", 256)]),
    "factor alone": ([node("Mul", "f a", "y")], [("scale", 256)]),
    "summand": ([node("Add", "a f", "y")], []),
    "summand of a relu": (
        [node("Relu", "a", "r"), node("Add", "r f", "y")],
        [("relu", 256), ("add", 256)],
    ),
    "moves": (
        [
            node("Concat", "a a", "b", axis=1),
            node("Shape", "b", "n"),
            node("Reshape", "b n", "c"),
            node("Transpose", "c", "d", perm=[0, 2, 3, 1]),
            node("Dropout", "d", "y"),
        ],
        [],
    ),
}


@pytest.mark.parametrize("name", REST)
def test_what_is_no_product(name: str, tmp_path: Path) -> None:
    nodes, expected = REST[name]
    tensors = {
        "w": floats(4, 3, 3, 3),
        "nought": np.float32(0),
        "six": np.float32(6),
        "axes": np.array([2, 3]),
        "f": floats(1, 4, 1, 1),
        "k": floats(4),
        "k4": floats(4) ** 2,
    }
    first = node("Conv", "x w", "a", pads=[1, 1, 1, 1])
    found = measure(save(tmp_path / "model.onnx", [first, *nodes], tensors, output=(1, 4)))
    conv, *rest = found.cost.layers
    assert (conv.kind, conv.outputs) == ("conv", 256)
    assert [(row.kind, row.outputs) for row in rest] == expected
    assert not found.uncounted
    windows = {"mean": 64, "mean over axes": 64, "means of 2 x 2": 4}
    assert [row.window for row in rest if row.kind == "pool"] == [
        window for key, window in windows.items() if key == name
    ]
    assert ("bias" in stored(conv)) == (name == "summand")
    stores = {"norm": 8, "factor and summand": 8, "factor alone": 4, "summand of a relu": 4}
    assert sum(row.elements for row in rest) == stores.get(name, 0)


PRODUCTS: dict[str, tuple[NodeProto, Array, int, int]] = {
    # MACs and outputs from an image of 3 x 8 x 8
    "strides": (node("Conv", "x w", "y", strides=[2, 2]), floats(4, 3, 2, 2), 12 * 64, 64),
    "groups": (node("Conv", "x w", "y", group=3), floats(6, 1, 3, 3), 9 * 6 * 36, 6 * 36),
    "dilation": (node("Conv", "x w", "y", dilations=[2, 2]), floats(2, 3, 3, 3), 54 * 16, 32),
    "transposed": (
        node("ConvTranspose", "x w", "y", strides=[2, 2]),
        floats(3, 4, 2, 2),
        48 * 64,
        4 * 256,
    ),
    "right": (node("MatMul", "x w", "y"), floats(8, 5), 3 * 8 * 5 * 8, 3 * 8 * 5),
    "left": (node("MatMul", "w x", "y"), floats(5, 8), 3 * 5 * 8 * 8, 3 * 5 * 8),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_multiplications_by_hand(name: str, tmp_path: Path) -> None:
    product, weights, macs, outputs = PRODUCTS[name]
    found = measure(save(tmp_path / "model.onnx", [product], {"w": weights}, output=(1, 4)))
    (row,) = found.cost.layers
    assert (row.macs, row.outputs, row.elements) == (macs, outputs, weights.size)


@pytest.mark.parametrize("batch", ["N", None, 1, 4])
def test_whatever_the_batch_a_score_is_that_of_one_image(batch: int | None, tmp_path: Path) -> None:
    shape = (batch, 3, 8, 8)
    path = save(tmp_path / "model.onnx", SMALL_FLOAT, SMALL_TENSORS, shape)
    assert measure(path).cost.macs == 4 * 27 * 64 + 4 * 18 * 64 + 20


def test_shapes_that_the_graph_computes(tmp_path: Path) -> None:
    """As PyTorch writes the shuffled channels of a batch of any size."""
    nodes = [
        node("Conv", "x w", "a", pads=[1, 1, 1, 1]),
        node("Shape", "a", "s"),
        *(node("Gather", f"s i{i}", f"d{i}") for i in range(4)),
        node("Div", "d1 two", "half"),
        node("Cast", "half", "half64", to=TensorProto.INT64),
        *(node("Unsqueeze", f"{name} first", f"{name}u") for name in ("d0", "half64", "d2", "d3")),
        node("Concat", "d0u twos half64u d2u d3u", "split", axis=0),
        node("Reshape", "a split", "b"),
        node("Transpose", "b", "c", perm=[0, 2, 1, 3, 4]),
        node("Slice", "s first1 last", "rest"),
        node("Concat", "d0u rest", "joined", axis=0),
        node("Reshape", "c joined", "e"),
        node("Conv", "e v", "y"),
    ]
    tensors = {"w": floats(4, 3, 3, 3), "v": floats(6, 4, 2, 1), "two": np.int64(2)}
    tensors |= {f"i{i}": np.int64(i) for i in range(4)} | {"twos": np.array([2])}
    tensors |= {"first": np.array([0]), "first1": np.array([1]), "last": np.array([4])}
    cost = measure(save(tmp_path / "model.onnx", nodes, tensors, output=(1, 4))).cost
    assert [row.macs for row in cost.layers] == [108 * 64, 48 * 56]


def test_scales_are_stored_once(tmp_path: Path) -> None:
    """Two layers read one rounded value, and what is rounded at the end is stored as well."""
    nodes = [
        node("QuantizeLinear", "x s u8", "q"),
        node("DequantizeLinear", "q s u8", "a"),
        node("Conv", "a w", "b", pads=[1, 1, 1, 1]),
        node("Conv", "a v", "c", pads=[1, 1, 1, 1]),
        node("Add", "b c", "d"),
        node("QuantizeLinear", "d t u8", "e"),
        node("DequantizeLinear", "e t u8", "y"),
    ]
    tensors = CONSTANTS | {"v": floats(4, 3, 3, 3, seed=1), "t": np.float32(0.3)}
    cost = measure(save(tmp_path / "model.onnx", nodes, tensors, output=(1, 4))).cost
    scales = [[t.role for t in row.stored].count("input_scale") for row in cost.layers]
    assert scales == [1, 0, 1]


# --- what cannot be counted ---


def odd(*nodes: NodeProto, path: Path, **tensors: Array) -> Measured:
    first = node("Conv", "x w", "a", pads=[1, 1, 1, 1])
    return measure(save(path / "m.onnx", [first, *nodes], CONSTANTS | tensors, output=(1, 4)))


def test_operators_that_cost_something_unknown_are_named(tmp_path: Path) -> None:
    nodes = [node("Softmax", "a", "b"), node("Tanh", "b", "c"), node("Tanh", "c", "y")]
    found = odd(*nodes, path=tmp_path)
    assert found.uncounted == {"Softmax": 1, "Tanh": 2}
    assert found.notes[0] == (
        "cannot be counted: Softmax (1 node), Tanh (2 nodes); so every score is a lower bound"
    )
    found = odd(node("MatMul", "a a", "y"), path=tmp_path)
    assert found.uncounted == {"MatMul": 1}  # there are no weights
    found = odd(node("Erf", "w", "v"), node("Conv", "x v", "y"), path=tmp_path)
    assert found.uncounted == {"Conv": 1}  # nor is it known how many of these are zero


def test_comparisons_count_nothing_and_are_said_to(tmp_path: Path) -> None:
    nodes = [node("MaxPool", "a", "b", kernel_shape=[2, 2]), node("Max", "b b", "y")]
    found = odd(*nodes, path=tmp_path)
    assert not found.uncounted
    assert found.notes[0] == "the rules count nothing for MaxPool (1 node), Max (1 node)"


def test_an_operator_of_another_domain_is_not_taken_for_one_of_onnx(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the shape of y, made by com.microsoft.Relu, is not"):
        odd(node("Relu", "a", "y", domain="com.microsoft"), node("Relu", "y", "z"), path=tmp_path)
