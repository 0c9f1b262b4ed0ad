from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from exports import (
    CIFAR,
    DENSENET,
    DIGITS,
    EFFICIENTNET,
    EXACT,
    HALF,
    compare,
    initializers,
    onnx_logits,
    optimized,
    random_images,
    random_shipped,
    widths,
)
from onnx import TensorProto, numpy_helper
from torch import nn

from micronet_search import build
from micronet_search.compression import quantized_layers, quantizers
from micronet_search.config.network import Input
from micronet_search.export import check
from micronet_search.export.onnx_size import onnx_size
from micronet_search.network.precision import Plan, Precision
from micronet_search.runtime import ExportError, onnx_model, session
from micronet_search.runtime.onnx_model import write_layer
from micronet_search.runtime.onnx_writer import GraphWriter
from micronet_search.scoring.graphs.measure import measure
from micronet_search.scoring.rules import scores

FLOAT = {
    "none": None,
    "32/32": widths(32, 32),
    "16/32": widths(16, 32),
    "8/32": widths(8, 32),
    "4/32": widths(4, 32),
}
INTEGER = {
    "8/8": widths(8, 8),
    "4/8": widths(4, 8),
    "3/5": widths(3, 5),
    "2/2": widths(2, 2),
    "2/8": widths(2, 8),
    "5/4": widths(5, 4),
    "7/6": widths(7, 6),
    "16/8": widths(16, 8),
    "16/3": widths(16, 3),
    "32/8": widths(32, 8),
    "4/16": widths(4, 16),
    "32/16": widths(32, 16),
    "ends at 8": widths(2, 4, first=widths(8, 8), last=widths(8, 8)),
    "ends in half": widths(4, 4, first=widths(16, 16), last=widths(16, 16)),
    "image of 4 bits": widths(8, 8, first=widths(8, 4)),
    "half, but for the last": widths(16, 16, last=widths(4, 4)),
}
NETWORKS: dict[str, tuple[Input, dict[str, Any]]] = {
    "colour": (CIFAR, {}),
    "groups": (CIFAR, {"groups": [2, 3], "pointwise_groups": [3, 2]}),
    "no bottleneck": (DIGITS, {"bottleneck": 0}),
    "stem with stride 2": (CIFAR, {"stem": {"width": 8, "kernel": 5, "stride": 2}}),
    "one block": (DIGITS, {"layers": [1], "stem": {"width": 4, "kernel": 1}}),
    "oblong": (Input(channels=2, height=12, width=20), {}),
}


@pytest.mark.parametrize("quantization", FLOAT.values(), ids=FLOAT)
def test_single_precision_graphs_compute_the_same(quantization: dict[str, Any] | None) -> None:
    assert compare(random_shipped(quantization)).max() < EXACT


@pytest.mark.parametrize("quantization", INTEGER.values(), ids=INTEGER)
def test_rounded_activations_are_the_same_but_for_ties(quantization: dict[str, Any]) -> None:
    # A value at the border of two integers may round to either, by the order of a sum: one step of
    # one activation. What most images see is none of it.
    assert compare(random_shipped(quantization)).median() < EXACT


def test_half_graphs_compute_the_same_in_half_precision() -> None:
    assert compare(random_shipped(widths(16, 16))).max() < HALF


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("bits", [(32, 32), (16, 16), (4, 8)], ids=str)
def test_every_shape_of_network(name: str, bits: tuple[int, int]) -> None:
    image, network = NETWORKS[name]
    error = compare(random_shipped(widths(*bits), image, DENSENET | network), 40)
    assert error.median() < (HALF if bits == (16, 16) else EXACT)


@pytest.mark.parametrize(
    ("bits", "weights", "opset"),
    [
        ((32, 32), TensorProto.FLOAT, 21),
        ((16, 16), TensorProto.FLOAT16, 21),
        ((16, 8), TensorProto.FLOAT16, 21),
        ((8, 8), TensorProto.INT8, 21),
        ((5, 8), TensorProto.INT8, 21),
        ((4, 8), TensorProto.INT4, 21),
        ((3, 8), TensorProto.INT4, 21),
        ((2, 2), TensorProto.INT2, 25),
    ],
    ids=str,
)
def test_tensors_have_their_true_types(bits: tuple[int, int], weights: int, opset: int) -> None:
    shipped = random_shipped(widths(*bits))
    content = onnx_model.write(shipped, {})
    found = initializers(content)
    rest = TensorProto.FLOAT if bits == (32, 32) else TensorProto.FLOAT16
    for name, tensor in shipped.tensors.items():
        if name.endswith("_scale"):
            # DequantizeLinear puts out the type of its scale
            assert found[name].data_type == TensorProto.FLOAT
        elif tensor.dim() > 1:
            assert found[name].data_type == weights, name
        else:
            assert found[name].data_type == rest, name
        values = numpy_helper.to_array(found[name]).astype(np.float32)
        np.testing.assert_array_equal(values.ravel(), tensor.float().numpy().ravel())
    assert [entry.version for entry in onnx.load_from_string(content).opset_import] == [opset]


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_an_older_opset_has_wider_types_for_the_same_network(bits: int, tmp_path: Path) -> None:
    """Opset 21 has no integers of 2 bits, 18 none of 4, and 14 no axes as an input of `ReduceMax`.

    Nothing else changes: what ONNX Runtime computes, and what is scored.
    """
    network = EFFICIENTNET | {"activation": "hard-swish"}
    shipped = random_shipped(widths(bits, 8, mode="dynamic"), DIGITS, network)
    expected = scores(build.predict(shipped.candidate).measured(shipped.tensors))
    images, path = random_images(DIGITS, 50), tmp_path / "model.onnx"
    logits, four = onnx_logits(onnx_model.write(shipped, {}), images), TensorProto.INT4
    for opset, version, kind in ((14, 7, None), (18, 8, None), (21, 10, four), (22, 10, four)):
        path.write_bytes(onnx_model.write(shipped, {}, opset))
        model = onnx.load(path)
        assert (model.opset_import[0].version, model.ir_version) == (min(opset, 21), version)
        kinds = {t.data_type for t in model.graph.initializer if t.name.endswith(".weight")}
        assert kinds == {kind if kind and bits < 8 else TensorProto.INT8}
        torch.testing.assert_close(onnx_logits(path.read_bytes(), images), logits)
        assert scores(measure(path).cost) == expected


def test_a_width_in_the_documentation_of_a_node_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model.write(random_shipped(widths(3, 8)), {}, 18))
    model = onnx.load(path)
    claims = [node for node in model.graph.node if node.doc_string]
    assert {node.doc_string for node in claims} == {"bits=3"}
    claims[0].doc_string = "bits=2"
    onnx.save(model, path)
    with pytest.raises(ValueError, match="does not have the 2 bits that its metadata claim"):
        measure(path)


SMALL = {"family": "resnet", "stem": {"width": 4}, "widths": [6], "layers": [1]}


@pytest.mark.parametrize(
    ("opset", "weights"), [(25, 18 + 108 + 162 + 12 + 30), (18, 36 + 216 + 324 + 24 + 60)]
)
def test_the_parts_of_a_file_as_counted_by_hand(opset: int, weights: int) -> None:
    """The network of the example in docs/scores.md: 660 weights of 4 bits, half of them zero."""
    shipped = random_shipped(widths(4, 8), DIGITS, SMALL, pruning={"sparsity": 0.5})
    content = onnx_model.write(shipped, {}, opset)
    size = onnx_size(content, build.predict(shipped.candidate))
    # with masks 330 * 4 + 660 bits, and 32 biases, 32 + 4 scales of 16 bits
    assert size.counted == math.ceil((1_980 + 68 * 16) / 8) == 384
    # biases; scales in 32 bits; for each of four inputs a scale and a step; the image's mean and
    # scale; the zero points of inputs
    tensors = weights + 32 * 2 + 32 * 4 + 4 * (4 + 4) + 4 + 4 + 1
    assert size.wider == tensors - 384
    assert size.total == len(content)
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    assert size.graph == pytest.approx(model.ByteSize(), abs=6 * len(model.graph.initializer))


@pytest.mark.parametrize("bits", [(32, 32), (16, 16), (8, 8), (4, 4), (2, 2)], ids=str)
def test_initializers_are_no_larger_than_what_is_stored(bits: tuple[int, int]) -> None:
    shipped = random_shipped(widths(*bits))
    plan, allowed = shipped.plan, 8  # normalisation
    for name, tensor in shipped.tensors.items():
        layer, part = name.rsplit(".", 1)
        weight = part == "weight" and layer in plan.layers
        width = plan.layers[layer].weight_bits if weight else plan.rest_bits
        width = 32 if part.endswith("_scale") else width
        allowed += math.ceil(tensor.numel() * width / 8)
        allowed += 8 + 4 + 1 if part == "input_scale" else 0  # bounds, step and zero point
    found = initializers(onnx_model.write(shipped, {})).values()
    assert sum(len(t.raw_data) for t in found) <= allowed


@pytest.mark.parametrize("bits", [(16, 16), (4, 8), (2, 2)], ids=str)
def test_the_batch_is_free(bits: tuple[int, int]) -> None:
    shipped = random_shipped(widths(*bits))
    content, images = onnx_model.write(shipped, {}), random_images(DIGITS, 7)
    logits = onnx_logits(content, images)
    assert logits.shape == (7, 10)
    assert logits.dtype == torch.float32
    single = torch.cat([onnx_logits(content, image[None]) for image in images])
    torch.testing.assert_close(single, logits, rtol=1e-2, atol=1e-2)


def test_names_lead_back_to_the_modules() -> None:
    shipped = random_shipped(widths(4, 8))
    model = onnx.load_from_string(onnx_model.write(shipped, {"candidate": "study/0001"}))
    assert model.producer_name == "micronet-search"
    assert [(p.key, p.value) for p in model.metadata_props] == [("candidate", "study/0001")]
    assert [value.name for value in model.graph.input] == ["image"]
    assert [value.name for value in model.graph.output] == ["logits"]
    nodes = {node.name for node in model.graph.node}
    computing = nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.ReLU
    modules = shipped.network.named_modules()
    assert {name for name, module in modules if isinstance(module, computing)} <= nodes


def test_a_layer_that_cannot_be_written_is_named() -> None:
    shipped = random_shipped(None)
    shipped.network.add_module("odd", nn.Softplus())
    with pytest.raises(AssertionError, match=r"odd.*Softplus"):
        onnx_model.write(shipped, {})


@pytest.mark.parametrize(
    "bits", [(8, 8), (4, 8), (2, 8), (2, 2), (16, 8), (32, 8), (16, 16)], ids=str
)
def test_onnx_runtime_rounds_no_weight_again(bits: tuple[int, int], tmp_path: Path) -> None:
    content = onnx_model.write(random_shipped(widths(*bits)), {})
    found = Counter(node.op_type for node in optimized(content, tmp_path).graph.node)
    written = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert found["QLinearConv"] == found["QGemm"] == 0
    if bits == (16, 16):
        # it may make a convolution of a multiplication, but not of the two one
        assert found["Mul"] + found["Conv"] == written["Mul"] + written["Conv"]


@pytest.mark.parametrize("weight_bits", [2, 8, 16])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", range(2, 9))
def test_inputs_are_rounded_as_by_the_quantizer(bits: int, signed: bool, weight_bits: int) -> None:
    layer = quantized_layers.QuantizedConv2d(1, 1, 1, bias=False)
    layer.input_quantizer = quantizer = quantizers.InputQuantizer(bits, signed=signed).eval()
    step = 8.0 / 2**bits
    tensors = {
        "layer.weight": torch.ones(1, 1, 1, 1).to(
            torch.int8 if weight_bits <= 8 else torch.float16
        ),
        "layer.weight_scale": torch.ones(1, dtype=torch.float16),
        "layer.input_scale": torch.tensor([step], dtype=torch.float16),
    }
    plan = Plan({"layer": Precision(weight_bits, bits)}, 16)
    writer = GraphWriter(torch.float32, tensors, plan)
    # quarters of a step around zero, ties and values out of bounds among them
    parameters = [
        writer.store("scale", np.array(step / 4, np.float32)),
        writer.store("mean", np.array(64, np.uint8)),
    ]
    source = writer.add("DequantizeLinear", ["image", *parameters], "values")
    output = write_layer(writer, "layer", layer, [source])
    output = writer.add("Flatten", [output], "flat")
    content = writer.model((1, 1, 256), 256, output, {}).SerializeToString()
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 1, 256)
    with torch.no_grad():
        quantizer.set_scale(torch.tensor([step]))
        expected = quantizer((images.float() - 64) * (step / 4))
    torch.testing.assert_close(onnx_logits(content, images), expected.flatten(1), rtol=0, atol=0)


def test_what_onnx_runtime_refuses_is_an_error_of_the_export() -> None:
    with pytest.raises(ExportError, match="does not run the file"):
        session.start(b"no model")


@pytest.mark.parametrize(
    ("validation", "judged", "test", "images", "far"),
    [
        (0.99, 144, 0.79, 359, True),  # two of ten classes that changed their names
        (0.99, 144, 0.88, 359, False),
        (0.90, 5_000, 0.87, 10_000, False),
        (0.90, 5_000, 0.84, 10_000, True),
        (0.84, 5_000, 0.90, 10_000, True),
        (0.60, 10, 0.20, 10, False),
        (1.00, 3, 1.00, 3, False),
        (1.00, 1_000, 0.98, 1_000, False),
        (1.00, 1_000, 0.90, 1_000, True),
    ],
)
def test_how_far_two_accuracies_may_be_apart(
    validation: float, judged: int, test: float, images: int, far: bool
) -> None:
    found = check.doubt(check.Agreement(images, 0, test, test), validation, judged)
    assert (found is not None) == far


@pytest.mark.parametrize(
    ("images", "allowed"), [(1, 1), (100, 1), (1999, 1), (2000, 2), (10_000, 10)]
)
def test_a_thousandth_may_differ_and_one_in_any_case(images: int, allowed: int) -> None:
    check.require_agreement("it", allowed, images)
    with pytest.raises(ExportError, match=f"^it and PyTorch predict {allowed + 1} of {images} "):
        check.require_agreement("it", allowed + 1, images)
