"""Whatever a sweep can draw runs: built, counted, fitted, stored, read again and exported.

`MICRONET_DRAWS` says how many candidates are drawn.
"""

import functools
import math
import os
import random

import candidates
import pytest
import torch

from micronet_search import build, shipped
from micronet_search.compression import stored
from micronet_search.compression.graph import fold
from micronet_search.compression.pruning import prune
from micronet_search.compression.quantization import calibrate, insert
from micronet_search.config.candidate import Candidate
from micronet_search.data.splits import Images, Normalization, Splits
from micronet_search.runtime import onnx_model, session
from micronet_search.scoring.rules import scores
from micronet_search.trial.trial import Trial

CPU = torch.device("cpu")
CHUNKS = 10
DRAWS = int(os.environ.get("MICRONET_DRAWS", "100")) // CHUNKS
TRIALS, BROKEN = 16, 4
CLASSES = 4


@functools.cache
def noise(count: int = 48) -> Splits:
    """Random images, of which half train and a quarter each judge and test."""
    image, generator = candidates.SMALL, torch.Generator().manual_seed(0)
    shape = (count, image.channels, image.height, image.width)
    images = torch.randint(256, shape, generator=generator, dtype=torch.uint8)
    found = Images(images, torch.arange(count) % CLASSES)
    ends = [slice(0, count // 2), slice(count // 2, 3 * count // 4), slice(3 * count // 4, count)]
    parts = [Images(found.images[end], found.labels[end]) for end in ends]
    return Splits(*parts, CLASSES, Normalization.of(images))


def run(asked: Candidate, teacher: bytes | None = None, *, breaks: bool = False) -> bytes:
    """The model file of a trial; with breaks, it goes on from a checkpoint after every epoch."""
    trial = Trial(asked, noise(), seed=0, device=CPU, teacher=teacher)
    trial.begin()
    while trial.epoch < trial.epochs:
        trial.advance(trial.epoch + 1 if breaks else trial.epochs)
        if breaks:
            content = trial.checkpoint()
            trial = Trial(asked, noise(), seed=0, device=CPU, teacher=teacher)
            trial.begin(content)
    return trial.finish().files["model.safetensors"]


def taught(asked: Candidate) -> bytes | None:
    """The model file of its teacher, where it has one."""
    if asked.distillation is None:
        return None
    return run(asked.teacher())


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_all_that_can_be_drawn_is_built_counted_and_learns(chunk: int) -> None:
    rng = random.Random(chunk)
    for _ in range(DRAWS):
        asked = candidates.random_candidate(rng, classes=CLASSES)
        assert Candidate.model_validate(asked.model_dump(mode="json")) == asked
        predicted = build.predict(asked)
        network = build.network(asked)
        candidates.reshape(network, asked)
        assert sum(p.numel() for p in network.parameters()) == predicted.parameters
        if asked.pruning is not None:
            prune(network, asked.pruning.sparsity, asked.pruning.exclude)
        widths = build.plan(asked, network)
        insert(network, widths)
        images = noise().normalization(noise().train.images)
        if widths.integer:
            calibrate(network, [images])
        logits = network.train()(images)
        assert logits.shape == (len(images), CLASSES)
        torch.nn.functional.cross_entropy(logits, noise().train.labels).backward()
        learning = [p for p in network.parameters() if p.grad is not None]
        assert learning
        assert all(p.grad.isfinite().all() for p in learning)
        fold(network, widths)
        # asserts that what is stored is what was counted
        measured = predicted.measured(stored.store(network, widths))
        assert measured.macs == predicted.macs
        for rule, score in scores(measured).items():
            assert math.isfinite(score.score), rule
            assert score.score > 0, rule


@pytest.mark.parametrize("seed", range(TRIALS))
def test_what_is_drawn_is_shipped_and_agrees_with_onnx_runtime(seed: int) -> None:
    asked = candidates.random_candidate(random.Random(1000 + seed), classes=CLASSES)
    network = shipped.unpack(run(asked, taught(asked)))
    started = session.start(onnx_model.write(network, {}))
    images = noise().test.images
    with torch.no_grad():
        expected = network(images)
    found = session.run(started, images)
    tolerance = 0.02 if network.plan.rest_bits == 16 else 1e-4
    assert float((found - expected).abs().max()) <= tolerance * max(float(expected.std()), 1.0)


@pytest.mark.parametrize("seed", range(BROKEN))
def test_a_break_changes_nothing(seed: int) -> None:
    """Teachers, thin networks, factors, masks and scales survive a checkpoint."""
    rng = random.Random(2000 + seed)
    pruning = {"sparsity": 0.5, "epochs": 2, "schedule": rng.choice(["cubic", "iterative"])}
    parts = {
        "structured_pruning": {"ratio": 0.4, "epochs": 1},
        "factorization": {"kind": rng.choice(["svd", "tucker"]), "ratio": 0.5, "epochs": 1},
        "pruning": pruning,
        "quantization": {"weight_bits": rng.choice([1, 4]), "activation_bits": 4, "epochs": 2},
    }
    asked = candidates.random_candidate(rng, classes=CLASSES, **parts)
    teacher = taught(asked)
    assert run(asked, teacher) == run(asked, teacher, breaks=True)
