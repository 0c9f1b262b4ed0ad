"""Packed files: their size, what stands in them, and what the reader in NumPy makes of them."""

from __future__ import annotations

import ast
import os
import random
import re
import shutil
import subprocess
import sys
from math import prod
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np
import pytest
import torch
from candidates import random_candidate
from exports import (
    COLOUR,
    DENSENET,
    DIGITS,
    EFFICIENTNET,
    EXACT,
    HALF,
    RESNET,
    compare,
    random_images,
    random_shipped,
    widths,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_export_families import CASES
from torch import Tensor, nn

from micronet_search import build, mnz
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import read_candidate
from micronet_search.config.network import Input
from micronet_search.data.splits import Normalization
from micronet_search.export import packed
from micronet_search.network.tensors import TensorSpec
from micronet_search.runtime import onnx_model
from micronet_search.scoring.cost import KINDS, Cost
from micronet_search.scoring.graphs.measure import measure
from micronet_search.scoring.rules import scores
from micronet_search.shipped import Shipped

EXAMPLES = int(os.environ.get("MICRONET_DRAWS", "50"))
FEW = 1e-3  # the share of the images that may be predicted otherwise
SOURCE, FORMAT = Path(mnz.__file__), Path(__file__).parents[1] / "docs" / "packed.md"
KIND = {packed.OPERATIONS[module]: kind for module, kind in KINDS.items()}


def cost_of(shipped: Shipped) -> Cost:
    return build.predict(shipped.candidate).measured(shipped.tensors)


def assert_same(shipped: Shipped, images: Tensor) -> None:
    """Every tensor is there bit by bit, the size is what is scored, and the logits are the same."""
    content, cost = packed.pack(shipped), cost_of(shipped)
    assert cost.storage_bits / 8 < len(content) <= cost.storage_bits / 8 * 1.02 + 512
    assert len(content) <= packed.most_bytes(cost.storage_bits)
    model = mnz.load(content)
    assert_same_layers(model, shipped, cost)
    with torch.no_grad():
        expected = shipped(images)
    found = torch.from_numpy(model(images.numpy()))
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == torch.float32
    error = (found - expected).abs().amax(1) / expected.abs().max().clamp_min(1e-30)
    # a value between two steps may be rounded to either, by the order of a sum
    assert error.median() < EXACT
    differing = int((found.argmax(1) != expected.argmax(1)).sum())
    assert differing <= max(1, FEW * len(images))


def assert_same_layers(model: mnz.Model, shipped: Shipped, cost: Cost) -> None:
    """All that a score needs, and every tensor bit by bit; a negative zero is none."""
    nodes = [node for node in model.nodes if node.operation != "join"]
    assert model.rest_bits == shipped.plan.rest_bits
    for node, layer in zip(nodes, cost.layers, strict=True):
        assert KIND[node.operation] == layer.kind
        assert (node.macs, prod(node.shape)) == (layer.macs, layer.outputs), layer.name
        assert [*node.stored] == [t.role for t in layer.stored]
        if layer.macs:
            assert node.input_bits == layer.activation_bits
        for stored in layer.stored:
            found, expected = node.tensors[stored.role], shipped.tensors[stored.name].numpy()
            assert node.stored[stored.role] == (found.shape, stored.bits)
            assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
            np.testing.assert_array_equal(found, expected, stored.name)
            assert np.count_nonzero(found) == stored.nonzeros


@pytest.mark.parametrize("name", CASES)
def test_every_family_and_technique(name: str) -> None:
    network, quantization, parts = CASES[name]
    shipped = random_shipped(quantization, COLOUR, network, **parts)
    assert_same(shipped, random_images(COLOUR, 24))


# --- any candidate, with tensors that were never trained ---


def invented(candidate: Candidate, sparsity: float, seed: int = 0) -> Shipped:
    """A network with random tensors, some of whose weights are zero, and values of about 1."""
    rng, tensors = np.random.default_rng(seed), dict[str, Tensor]()
    for layer in build.predict(candidate).layers:
        for stored in layer.stored:
            inside = max(1, prod(layer.stored[0].shape[1:]))
            greatest = 2.0 ** max(0, layer.weight_bits - 1)
            if stored.role == "weight" and layer.macs:
                values = rng.normal(0.0, 1 / inside**0.5, stored.shape)
                if stored.bits <= 8:
                    steps = np.copysign(np.ceil(abs(values) * inside**0.5 / 3 * greatest), values)
                    values = steps.clip(-greatest, max(1, greatest - 1))
                values *= rng.random(stored.shape) >= sparsity
            elif stored.role == "weight_scale":
                values = rng.uniform(2, 4, stored.shape) / inside**0.5 / greatest
            elif stored.role == "input_scale":
                values = rng.uniform(3, 4, stored.shape) / 2.0 ** (layer.activation_bits - 1)
            elif stored.role == "weight":
                values = rng.uniform(0.5, 1.5, stored.shape)
            else:
                values = rng.normal(0.0, 0.3, stored.shape)
            tensors[stored.name] = torch.tensor(values).to(stored.dtype)
    normalization = Normalization(int(rng.integers(256)), float(rng.uniform(0.01, 0.03)))
    return Shipped(candidate, tensors, normalization)


@settings(max_examples=EXAMPLES)
@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.05, 0.3, 0.6, 0.9, 1.0]))
def test_any_candidate(seed: int, sparsity: float) -> None:
    """Through the packed file and through ONNX, which holds what is scored too."""
    candidate = random_candidate(random.Random(seed))
    shipped, images = invented(candidate, sparsity, seed), random_images(candidate.input, 16)
    with torch.no_grad():
        assume(shipped(images).isfinite().all())  # half precision ends at 65,504
    assert_same(shipped, images)
    assert compare(shipped, 16).median() < (HALF if shipped.plan.rest_bits == 16 else EXACT)
    with NamedTemporaryFile(suffix=".onnx") as file:
        file.write(onnx_model.write(shipped, {}))
        file.flush()
        found = measure(Path(file.name)).cost
    assert found.nonzeros == cost_of(shipped).nonzeros
    assert scores(found) == scores(cost_of(shipped))


def candidate_of(network: dict[str, Any], quantization: Any, image: Input = DIGITS) -> Candidate:
    training = {"epochs": 1, "learning_rate": 0.1}
    tree = {"network": network, "training": training, "quantization": quantization}
    return read_candidate(tree, image, 10)


@pytest.mark.parametrize("sparsity", [0.0, 0.02, 0.8])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 5, 6, 7, 8, 16, 32])
def test_every_width_dense_and_sparse(bits: int, sparsity: float) -> None:
    network = [DENSENET, RESNET, EFFICIENTNET][bits % 3]
    shipped = invented(candidate_of(network, widths(bits, max(2, bits))), sparsity)
    assert_same(shipped, random_images(DIGITS, 8))
    cost = cost_of(shipped)
    largest = max(cost.stored, key=lambda stored: stored.elements)
    kept = largest.nonzeros / largest.elements
    assert kept == pytest.approx(1 - sparsity, abs=0.1)
    dense = bits if sparsity < 1 / bits and not (bits == 1 and sparsity) else 1 + bits * kept
    assert largest.storage_bits == pytest.approx(dense * largest.elements)


def test_a_deep_and_narrow_network_is_mostly_its_weights() -> None:
    thin = {"structured_pruning": {"ratio": 0.3}}
    network = RESNET | {"widths": [8, 8, 8], "layers": [18, 18, 18]}
    tree = {"network": network, "training": {"epochs": 1, "learning_rate": 0.1}, **thin}
    candidate = read_candidate(tree | {"quantization": widths(1, 4)}, DIGITS, 10)
    shipped = invented(candidate, 0.0)
    assert len(shipped.plan.layers) > 100
    assert_same(shipped, random_images(DIGITS, 4))


# --- numbers ---


def test_sums_beyond_single_precision_are_exact() -> None:
    candidate = candidate_of(EFFICIENTNET | {"head": 2048}, widths(8, 8))
    shipped = invented(candidate, 0.0)
    shipped.tensors["classifier.weight"][0] = 127
    model = mnz.load(packed.pack(shipped))
    types = [node.ready["weight"].dtype for node in model.nodes if node.weights]
    assert types == [np.dtype(np.float32)] * (len(types) - 1) + [np.dtype(np.float64)]
    last = model.nodes[-1]
    scale = last.tensors["input_scale"].astype(np.float32)
    rng = np.random.default_rng(0)
    integers = rng.integers(250, 256, (3, 2048))
    found = last.run(last, (integers * scale).astype(np.float32)[:, :, None, None])
    sums = integers @ last.tensors["weight"].astype(np.int64).T
    assert sums.max() > 2**25
    scales = last.tensors["weight_scale"].astype(np.float32) * scale
    expected = sums * scales.astype(np.float64) + last.tensors["bias"]
    np.testing.assert_array_equal(found[:, :, 0, 0], expected.astype(np.float32))


def test_an_image_is_classed_alike_in_any_company() -> None:
    shipped = random_shipped(widths(4, 8, mode="dynamic"), COLOUR, EFFICIENTNET)
    model, images = mnz.load(packed.pack(shipped)), random_images(COLOUR, 7).numpy()
    together = model(images)
    model._size = 2**23  # of two images at a time
    np.testing.assert_array_equal(model(images), together)
    np.testing.assert_array_equal(np.concatenate([model(i[None]) for i in images]), together)
    assert model(images[:0]).shape == (0, 10)


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((2, 3, 16, 16), np.float32),
        np.zeros((2, 1, 16, 16), np.uint8),
        np.zeros((3, 16, 16), np.uint8),
        np.zeros((2, 3, 16, 15), np.uint8),
        np.zeros((), np.uint8),
    ],
    ids=lambda images: f"{images.dtype}-{images.shape}",
)
def test_other_images_are_refused(images: Any) -> None:
    model = mnz.load(packed.pack(random_shipped(None, COLOUR, RESNET)))
    with pytest.raises(ValueError, match=r"image: found .*, expected \('uint8', 3, 16, 16\)$"):
        model(images)


# --- bytes ---

TENSORS: dict[str, tuple[int, list[float], list[int]]] = {
    # a flag of 0, then the elements, lowest bits first: 0 100 001 110 111
    "3 bits": (3, [1, -4, 3, -1], [0b11000010, 0b11101]),
    # a flag of 1, the mask, and two elements: 1 00100010 1010 0111
    "4 bits, sparse": (4, [0, 0, 5, 0, 0, 0, -2, 0], [0b10001001, 0b11001010, 0b1]),
    # 16 bits dense, and 4 + 12 bits sparse, are the same: dense
    "4 bits, either": (4, [1, 2, 0, 3], [0b01000010, 0b01100000, 0b0]),
    "signs": (1, [1, -1, -1], [0b1100]),
    "signs and a zero": (1, [1, -1, 0], [0b100111]),
    "no sign": (1, [0, 0], [0b1]),
    "8 bits": (8, [-128, 127], [0, 0b11111111, 0]),
    "half": (16, [1.0], [0, 0x3C << 1, 0]),
    "half, sparse": (16, [0.0, -2.0, 0.0], [0b0101, 0, 0b1100]),
    "single": (32, [-1.5], [0, 0, 0b10000000, 0b01111111, 0b1]),
}


@pytest.mark.parametrize("name", TENSORS)
def test_tensors_bit_by_bit(name: str) -> None:
    bits, values, expected = TENSORS[name]
    spec = TensorSpec("layer", "weight", (len(values),), bits)
    tensor = torch.tensor(values).to(spec.dtype)
    content = packed._stream([packed._tensor(spec, tensor)])
    assert [*content] == expected
    twice = packed._stream([packed._tensor(spec, tensor)] * 2)  # the second begins within a byte
    stream = mnz._Stream(twice)
    for _ in range(2):
        found = stream.tensor(spec.shape, bits, "weight")
        np.testing.assert_array_equal(found, tensor.numpy())
        assert found.dtype == tensor.numpy().dtype
    assert 0 <= stream.left < 8


def test_the_example_of_the_documentation() -> None:
    text = FORMAT.read_text()
    (example,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    digits = (line.split("  ")[0] for line in example.splitlines())
    model = mnz.load(bytes.fromhex(" ".join(digits)))
    (node,) = model.nodes
    assert node.tensors["weight"].tolist() == [[[[1, -4], [3, -1]]]]
    assert node.tensors["weight_scale"].tolist() == [0.5]
    image = np.array([[[[129, 128], [130, 127]]]], np.uint8)
    assert model(image).tolist() == [[0.03125]]
    for name in mnz.OPERATIONS:
        assert f"`{name}`" in text


# --- the reader alone ---


def test_the_reader_imports_numpy_and_python_alone() -> None:
    names: set[str] = set()
    for node in ast.walk(ast.parse(SOURCE.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names.add((node.module or "").split(".")[0])
    assert names - sys.stdlib_module_names == {"numpy"}
    assert not names & {"pickle", "marshal", "shelve", "ctypes", "importlib"}
    assert len(SOURCE.read_text().splitlines()) < 250


def test_the_reader_runs_where_nothing_else_is(tmp_path: Path) -> None:
    shipped, images = random_shipped(widths(4, 4), DIGITS, DENSENET), random_images(DIGITS, 20)
    shutil.copy(SOURCE, tmp_path / "mnz.py")
    (tmp_path / "model.mnz").write_bytes(packed.pack(shipped))
    np.save(tmp_path / "images.npy", images.numpy())
    # finders that know nothing but Python and NumPy; the folder of a script is on the path
    (tmp_path / "alone.py").write_text(
        "import runpy, sys\n"
        "class Only:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        top = name.split('.')[0]\n"
        "        if top not in sys.stdlib_module_names | {'numpy', 'mnz'}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Only())\n"
        "sys.argv = ['mnz.py', 'model.mnz', 'images.npy']\n"
        "runpy.run_path('mnz.py', run_name='__main__')\n"
    )
    command = [sys.executable, "-W", "error", "-E", "-s", "alone.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    with torch.no_grad():
        expected = shipped(images).argmax(1)
    found = [int(line) for line in ran.stdout.splitlines()]
    assert len(found) == 20
    assert sum(a != b for a, b in zip(found, expected.tolist(), strict=True)) <= 1


def test_a_layer_that_cannot_be_packed_is_named() -> None:
    shipped = random_shipped(None)
    shipped.network.add_module("odd", nn.Softplus())
    with pytest.raises(AssertionError, match=r"odd.*Softplus"):
        packed.pack(shipped)
