from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exports import (
    COLOUR,
    DENSENET,
    DIGITS,
    EFFICIENTNET,
    EXACT,
    HALF,
    RESNET,
    compare,
    onnx_logits,
    optimized,
    random_images,
    random_shipped,
    trained_shipped,
    widths,
)
from onnx import numpy_helper
from torch import nn

from micronet_search import mnz
from micronet_search.compression import quantized_layers, quantizers
from micronet_search.config.sweep import Dataset
from micronet_search.data.splits import Splits, load
from micronet_search.export import check, packed
from micronet_search.network.layers import Scale
from micronet_search.network.precision import Plan, Precision
from micronet_search.runtime import onnx_model
from micronet_search.runtime.onnx_model import write_layer
from micronet_search.runtime.onnx_writer import GraphWriter
from micronet_search.training.fit import predictions

SEPARABLE = {"convolution": "separable"}
NOTHING, ACTIVATION = SEPARABLE | {"between": "nothing"}, SEPARABLE | {"between": "activation"}
BOTTLENECK = {"layer": "bottleneck", "groups": 2}
FUSED = EFFICIENTNET | {"convolution": "plain"}
SILU, HARD_SWISH = {"activation": "silu"}, {"activation": "hard-swish"}
THIN = {"structured_pruning": {"ratio": 0.4}}
SVD = {"factorization": {"kind": "svd", "ratio": 0.4}}
TUCKER = {"factorization": {"kind": "tucker", "ratio": 0.5}}
# What ONNX Runtime may run: nothing that rounds values or weights besides what is asked for. A SiLU
# is a QuickGelu to it.
UNROUNDED = {
    *(
        "Conv",
        "FusedConv",
        "Gemm",
        "Add",
        "Sub",
        "Mul",
        "Relu",
        "Sigmoid",
        "QuickGelu",
        "HardSigmoid",
    ),
    *("GlobalAveragePool", "AveragePool", "Concat", "Flatten", "Cast"),
    *("ReorderInput", "ReorderOutput"),
    *("QuantizeLinear", "DequantizeLinear", "Clip"),
    *("Abs", "ReduceMax", "Max", "Div", "Round"),
}
MIXED = {"block1": widths(2, 4), "block2": widths(16, 16)}


def dynamic(weight: int, activation: int, **parts: Any) -> dict[str, Any]:
    return widths(weight, activation, mode="dynamic", **parts)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, dict[str, Any]]] = {
    "resnet": (RESNET, None, {}),
    "resnet, 16 bits": (RESNET | BOTTLENECK, widths(16, 16), {}),
    "resnet, 8/8": (RESNET | SEPARABLE | {"groups": 2}, widths(8, 8), {}),
    "resnet, 4/4": (RESNET | BOTTLENECK | SEPARABLE, widths(4, 4), {}),
    "resnet, 16/8": (RESNET, widths(16, 8), {}),
    "resnet, 32/5": (RESNET | BOTTLENECK, widths(32, 5), {}),
    "efficientnet, Tucker, 32/8": (EFFICIENTNET | SILU, widths(32, 8), TUCKER),
    "resnet, dynamic 2/3": (RESNET | {"groups": 4}, dynamic(2, 3), {}),
    "resnet, 1/4": (RESNET, widths(1, 4), {}),
    "resnet, mixed": (RESNET | BOTTLENECK, dynamic(4, 8, blocks=MIXED), {}),
    "resnet, thin, SVD, dynamic 8/8": (RESNET | BOTTLENECK, dynamic(8, 8), THIN | SVD),
    "resnet, Tucker, 16 bits": (RESNET, widths(16, 16), TUCKER),
    "efficientnet": (EFFICIENTNET, None, {}),
    "efficientnet, silu, 32/32": (EFFICIENTNET | SILU, widths(32, 32), THIN),
    "efficientnet, silu, 16 bits": (EFFICIENTNET | SILU, widths(16, 16), {}),
    "efficientnet, hard-swish, 16 bits": (EFFICIENTNET | HARD_SWISH, widths(16, 16), {}),
    "efficientnet, 8/8": (EFFICIENTNET, widths(8, 8), {}),
    "efficientnet, silu, dynamic 8/8": (EFFICIENTNET | SILU, dynamic(8, 8), {}),
    "efficientnet, hard-swish, 4/4": (EFFICIENTNET | HARD_SWISH, widths(4, 4), {}),
    "efficientnet, silu, fused, 2/3": (FUSED | SILU, widths(2, 3), {}),
    "efficientnet, dynamic 1/4": (EFFICIENTNET | {"groups": 2}, dynamic(1, 4), THIN),
    "efficientnet, silu, mixed": (EFFICIENTNET | SILU, widths(4, 8, blocks=MIXED), {}),
    "efficientnet, hard-swish, thin, SVD": (EFFICIENTNET | HARD_SWISH, widths(4, 4), THIN | SVD),
    "efficientnet, fused, Tucker, 8/8": (FUSED, widths(8, 8), TUCKER),
    "densenet, separable, dynamic 8/8": (DENSENET | SEPARABLE, dynamic(8, 8), {}),
    "densenet, groups, dynamic 4/4": (DENSENET | {"groups": [2, 3]}, dynamic(4, 4), {}),
    "densenet, 1/4": (DENSENET, widths(1, 4), {}),
    "densenet, dynamic 2/3, image of 4 bits": (DENSENET, dynamic(2, 3, first=widths(8, 4)), {}),
    "densenet, dynamic, 16/8": (DENSENET, dynamic(16, 8), {}),
    "densenet, thin, Tucker, 4/4": (DENSENET, widths(4, 4), THIN | TUCKER),
    "densenet, SVD, 8/8": (DENSENET, widths(8, 8, last=widths(16, 8)), SVD),
    "resnet, separable, SVD, 8/8": (RESNET | SEPARABLE, widths(8, 8), SVD),
    "resnet, nothing between": (RESNET | NOTHING, None, {}),
    "resnet, nothing between, 4/4": (RESNET | NOTHING, widths(4, 4), {}),
    "resnet, nothing between, 8/8": (RESNET | NOTHING, widths(8, 8), SVD),
    "resnet, norm between, 4/4": (RESNET | SEPARABLE | {"between": "norm"}, widths(4, 4), {}),
    "densenet, activation between, 4/4": (DENSENET | ACTIVATION, widths(4, 4), {}),
    "densenet, activation between, dynamic 8/8": (DENSENET | ACTIVATION, dynamic(8, 8), {}),
    "efficientnet, nothing between, 4/4": (EFFICIENTNET | NOTHING, widths(4, 4), {}),
    "efficientnet, nothing between, thin, 16 bits": (EFFICIENTNET | NOTHING, widths(16, 16), THIN),
    "densenet, separable, thin, 16 bits": (DENSENET | SEPARABLE, widths(16, 16), THIN),
}


@pytest.mark.parametrize("name", CASES)
def test_every_family_and_technique_computes_the_same(name: str, tmp_path: Path) -> None:
    network, quantization, parts = CASES[name]
    shipped = random_shipped(quantization, COLOUR, network, **parts)
    # single activations may round otherwise, by the order of a sum
    error = compare(shipped, 24).median()
    assert error < (HALF if "16 bits" in name else EXACT)
    graph = optimized(onnx_model.write(shipped, {}), tmp_path).graph
    assert {node.op_type for node in graph.node} <= UNROUNDED
    found = {_nonzeros(numpy_helper.to_array(tensor)) for tensor in graph.initializer}
    for layer, precision in shipped.plan.layers.items():
        if precision.scales_weights or "16 bits" in name:
            assert _nonzeros(shipped.tensors[f"{layer}.weight"].numpy()) in found, layer


def _nonzeros(values: np.ndarray[Any, Any]) -> bytes:
    """All that is no padding, whatever the order."""
    return np.sort(values[values.astype(np.float32) != 0].astype(np.float32)).tobytes()


@pytest.fixture(scope="module")
def digits() -> Splits:
    return load(Dataset(name="digits"))


TRAINED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "resnet, static 4/4": (RESNET, widths(4, 4), SVD),
    "resnet, dynamic 1/4": (RESNET, dynamic(1, 4, first=widths(8, 8), last=widths(8, 8)), {}),
    # the first factor puts out multiples of one number, which halve many steps exactly
    "resnet, SVD, dynamic 4/4": (RESNET, dynamic(4, 4), SVD),
    "efficientnet, dynamic 4/8": (EFFICIENTNET | HARD_SWISH, dynamic(4, 8), {}),
    "efficientnet, 16 bits": (EFFICIENTNET | SILU, widths(16, 16), THIN),
    "densenet, dynamic 4/4": (DENSENET | SEPARABLE, dynamic(4, 4), THIN | TUCKER),
    "resnet, nothing between, static 4/4": (RESNET | NOTHING, widths(4, 4), {}),
}


@pytest.mark.parametrize("name", TRAINED)
def test_trained_networks_predict_the_same(name: str, digits: Splits) -> None:
    network, quantization, parts = TRAINED[name]
    shipped = trained_shipped(quantization, network, digits.train, **parts)
    found = check.compare(onnx_model.write(shipped, {}), shipped, digits.test)
    assert found.images == 359
    assert found.onnx_accuracy > 0.5
    images = digits.test.images
    classes = mnz.load(packed.pack(shipped))(images.numpy()).argmax(1)
    differing = int((classes != predictions(shipped, [images]).numpy()).sum())
    check.require_agreement("the packed file", differing, len(images))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("linear", [False, True])
def test_dynamic_inputs_are_rounded_as_by_the_quantizer(
    bits: int, signed: bool, linear: bool
) -> None:
    kind = quantized_layers.QuantizedLinear if linear else quantized_layers.QuantizedConv2d
    layer = kind(7, 7, *[] if linear else [1])
    layer.input_quantizer = quantizer = quantizers.DynamicInputQuantizer(bits, signed=signed)
    values = 2.0 ** torch.arange(-20, 20, 4)[:, None, None, None] * torch.randn(1, 7, 3, 3)
    values = torch.cat([values, torch.zeros(1, 7, 3, 3)])
    values = values if signed else values.abs()
    values = values.flatten(2).mean(2) if linear else values
    eye = torch.eye(7).view(layer.weight.shape)
    plan = Plan({"layer": Precision(32, bits, dynamic=True)}, 16)
    writer = GraphWriter(torch.float32, {"layer.weight": eye}, plan)
    source = writer.store("values", values.numpy())
    output = writer.add("Flatten", [write_layer(writer, "layer", layer, [source])], "flat")
    width = values[0].numel()
    content = writer.model((1, 1, 1), width, output, {}).SerializeToString()
    with torch.no_grad():
        expected = quantizer(values).flatten(1)
    found = onnx_logits(content, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize(
    "module", [nn.ReLU(), nn.SiLU(), nn.Hardswish(), nn.Sigmoid(), nn.Hardsigmoid()], ids=str
)
def test_activations_are_the_same_in_both_precisions(module: nn.Module, half: bool) -> None:
    writer = GraphWriter(torch.float16 if half else torch.float32, {}, Plan({}, 16))
    values = np.linspace(-9, 9, 181, dtype=np.float16).astype(np.float16 if half else np.float32)
    source = writer.store("values", values[None])
    output = write_layer(writer, "layer", module, [source])
    content = writer.model((1, 1, 1), 181, output, {}).SerializeToString()
    found = onnx_logits(content, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    expected = module(torch.from_numpy(values).float())[None]
    tolerance = 2e-3 if half else 1e-6
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("network", "quantization"),
    [
        (EFFICIENTNET | HARD_SWISH, widths(8, 8)),
        (EFFICIENTNET | SILU, dynamic(4, 4)),
        (RESNET, dynamic(1, 8)),
        (RESNET, widths(16, 16)),
    ],
    ids=["squeeze", "dynamic squeeze", "dynamic signs", "half"],
)
def test_an_image_is_classed_alike_in_any_company(
    network: dict[str, Any], quantization: dict[str, Any]
) -> None:
    shipped = random_shipped(quantization, DIGITS, network)
    content, images = onnx_model.write(shipped, {}), random_images(DIGITS, 7)
    # others that are far brighter must not widen the ranges of an image
    images[::2] //= 16
    logits = onnx_logits(content, images)
    single = torch.cat([onnx_logits(content, image[None]) for image in images])
    torch.testing.assert_close(single, logits, rtol=1e-2, atol=1e-2)
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_signs_are_stored_in_two_bits_and_dynamic_scales_not_at_all() -> None:
    shipped = random_shipped(dynamic(1, 4), DIGITS, RESNET)
    graph = onnx.load_from_string(onnx_model.write(shipped, {})).graph
    weights = {t.name: t for t in graph.initializer if t.name.endswith(".weight")}
    assert weights
    for name, tensor in weights.items():
        assert tensor.data_type == onnx.TensorProto.INT2
        values = numpy_helper.to_array(tensor).astype(np.int8)
        np.testing.assert_array_equal(values, shipped.tensors[name].numpy())
        assert set(np.unique(values)) <= {-1, 0, 1}
    assert not [t.name for t in graph.initializer if t.name.endswith("input_scale")]


def test_a_gate_is_multiplied_onto_every_pixel_of_its_channel() -> None:
    writer = GraphWriter(torch.float32, {}, Plan({}, 16))
    image, gate = torch.randn(2, 3, 4, 4), torch.rand(2, 3, 1, 1)
    sources = [writer.store("pixels", image.numpy()), writer.store("gate", gate.numpy())]
    output = write_layer(writer, "scale", Scale(), sources)
    output = writer.add("Flatten", [output], "flat")
    content = writer.model((1, 1, 1), 48, output, {}).SerializeToString()
    found = onnx_logits(content, torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    torch.testing.assert_close(found, (image * gate).flatten(1), rtol=0, atol=0)
