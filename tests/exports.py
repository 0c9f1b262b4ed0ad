"""Networks as trials leave them, but for the training, and what ONNX Runtime makes of them."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from candidates import reshape
from torch import Tensor, nn

from micronet_search import build
from micronet_search.compression import stored
from micronet_search.compression.graph import fold
from micronet_search.compression.pruning import prune
from micronet_search.compression.quantization import calibrate, insert
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import read_candidate
from micronet_search.config.network import Input
from micronet_search.data.splits import Images, Normalization
from micronet_search.export import check
from micronet_search.network.precision import Plan, layers_of
from micronet_search.runtime import onnx_model, session
from micronet_search.shipped import Shipped

DIGITS, CIFAR = Input(channels=1, height=8, width=8), Input()
COLOUR = Input(channels=3, height=16, width=16)
EXACT = 1e-4
# Every operator of such a graph rounds to 11 significant bits, where PyTorch rounds the inputs of
# its layers alone.
HALF = 5e-3

DENSENET: dict[str, Any] = {
    "family": "densenet",
    "stem": {"width": 12},
    "growth_rate": 6,
    "layers": [2, 1],
    "bottleneck": 2,
}
RESNET: dict[str, Any] = {
    "family": "resnet",
    "stem": {"width": 8},
    "widths": [8, 12],
    "layers": [2, 1],
}
EFFICIENTNET: dict[str, Any] = {
    "family": "efficientnet",
    "stem": {"width": 8},
    "widths": [8, 12],
    "layers": [2, 1],
    "strides": [1, 2],
    "kernels": [3, 5],
    "expansions": [1, 3],
    "squeeze": 0.5,
    "head": 16,
}


def random_shipped(
    quantization: dict[str, Any] | None,
    image: Input = DIGITS,
    network: dict[str, Any] = DENSENET,
    **parts: Any,
) -> Shipped:
    """A network as a trial leaves it, but for the training; `parts` are its other techniques."""
    images = random_images(image, 64)
    candidate, built = _thinned(quantization, image, network, parts)
    normalization = Normalization.of(images)
    _randomize(built, normalization(images))
    prune(built, 0.3)
    plan = _quantize(candidate, built, normalization(images))
    _find_all_classes(built, normalization(images))
    return Shipped(candidate, stored.store(built, plan), normalization)


def trained_shipped(
    quantization: dict[str, Any] | None,
    network: dict[str, Any],
    train: Images,
    **parts: Any,
) -> Shipped:
    """A network that has learned images of 8 x 8 pixels for a few steps, then few bits too."""
    candidate, built = _thinned(quantization, DIGITS, network, parts)
    normalization = Normalization.of(train.images)
    _learn(built, normalization, train, 0.02)
    plan = _quantize(candidate, built, normalization(train.images))
    _learn(built, normalization, train, 0.002)
    return Shipped(candidate, stored.store(built, plan), normalization)


def _learn(network: nn.Module, normalization: Normalization, train: Images, rate: float) -> None:
    optimizer = torch.optim.Adam(network.train().parameters(), rate)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        batch = torch.randint(len(train), (64,), generator=generator)
        logits = network(normalization(train.images[batch]))
        nn.functional.cross_entropy(logits, train.labels[batch]).backward()
        optimizer.step()
        optimizer.zero_grad()


def _thinned(
    quantization: dict[str, Any] | None, image: Input, network: dict[str, Any], parts: Any
) -> tuple[Candidate, nn.Sequential]:
    torch.set_num_threads(1)
    tree = {
        "network": network,
        "training": {"epochs": 1, "learning_rate": 0.1},
        "quantization": quantization,
        **parts,
    }
    candidate = read_candidate(tree, image, 10)
    found = build.network(candidate, seed=3)
    reshape(found, candidate)
    return candidate, found


def _randomize(network: nn.Module, images: Tensor) -> None:
    """Norms at random, with the statistics of the images."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0.0, 0.3, generator=generator)
    network.train()
    with torch.no_grad():
        for part in images.split(16):  # moves the running statistics
            network(part)


@torch.no_grad()
def _find_all_classes(network: nn.Module, images: Tensor) -> None:
    last = list(layers_of(network).values())[-1]
    assert last.bias is not None
    last.bias -= network(images).mean(0)


def _quantize(candidate: Candidate, network: nn.Sequential, images: Tensor) -> Plan:
    plan = build.plan(candidate, network)
    insert(network.eval(), plan)
    if plan.integer:
        calibrate(network, [images])
    fold(network, plan)
    return plan


def random_images(image: Input, count: int) -> Tensor:
    """uint8 (count, C, H, W), blocks of 4 x 4 pixels that differ."""
    generator = torch.Generator().manual_seed(0)
    blocks = (count, image.channels, image.height // 4, image.width // 4)
    coarse = torch.randint(0, 256, blocks, generator=generator, dtype=torch.uint8)
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def widths(weight: int, activation: int, **parts: Any) -> dict[str, Any]:
    return {"weight_bits": weight, "activation_bits": activation, **parts}


def onnx_logits(content: bytes, images: Tensor) -> Tensor:
    return session.run(session.start(content), images)


def compare(shipped: Shipped, count: int = 60) -> Tensor:
    """How far the logits of each image are apart, (count,), relative to the largest logit."""
    images = random_images(shipped.candidate.input, count)
    content = onnx_model.write(shipped, {})
    with torch.no_grad():
        expected = shipped(images)
    split = Images(images, torch.zeros(count, dtype=torch.int64))
    check.compare(content, shipped, split)  # else it raises
    error = (onnx_logits(content, images) - expected).abs().amax(1)
    relative: Tensor = error / expected.abs().max()
    return relative


def run_card(export: Path) -> tuple[dict[str, Any], str]:
    """What the code on a model card leaves and prints, run as written in the export's folder.

    The first snippet, of three lines, prints the class of a black image; that is left out.
    """
    snippets = re.findall(r"```python\n(.*?)```", (export / "README.md").read_text(), re.DOTALL)
    assert len(snippets) == 3
    found: dict[str, Any] = {}
    with contextlib.chdir(export), contextlib.redirect_stdout(io.StringIO()) as printed:
        for snippet in snippets:
            exec(snippet, found)
    black, rest = printed.getvalue().split("\n", 1)
    assert re.fullmatch(r"\[\d+\]", black), black
    assert sum(map(bool, snippets[0].splitlines())) == 3
    return found, rest


def metadata(export: Path) -> dict[str, str]:
    """What stands in an export's ONNX file beside the graph."""
    model = onnx.load(export / "model.onnx")
    return {entry.key: entry.value for entry in model.metadata_props}


def initializers(content: bytes) -> dict[str, onnx.TensorProto]:
    """The tensors in a file by their names."""
    return {t.name: t for t in onnx.load_from_string(content).graph.initializer}


def optimized(content: bytes, folder: Path) -> onnx.ModelProto:
    """What ONNX Runtime makes of a file, and runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")
