from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml
from exports import DENSENET, DIGITS, EFFICIENTNET, RESNET, widths
from matplotlib.backends.backend_agg import FigureCanvasAgg

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.export import card, origin, picture
from micronet_search.export.check import Agreement
from micronet_search.export.onnx_size import OnnxSize
from micronet_search.scoring.rules import RULES
from micronet_search.store.outcome import Outcome
from micronet_search.store.paths import Repeat
from micronet_search.study.confirmation import Confirmation
from micronet_search.study.queue import seed_of

TRAINING = {"epochs": 3, "learning_rate": 0.1}
TEACHER = {"network": RESNET, "training": {"epochs": 30, "learning_rate": 0.01}}


def candidate_of(network: dict[str, Any] = RESNET, **parts: Any) -> Candidate:
    return read_candidate({"network": network, "training": TRAINING, **parts}, DIGITS, 10)


def lines(candidate: Candidate) -> dict[str, str]:
    return dict(card.figures(candidate, build.compressed(candidate)[1]))


def card_of(candidate: Candidate, **others: Any) -> str:
    tree = candidate.model_dump(mode="json", exclude={"input", "classes"})
    sweep = Sweep.model_validate(
        {
            "name": "study",
            "dataset": {"name": "digits"},
            "objectives": {"accuracy": {"at_least": 0.9}, "score": {"rule": "imt", "at_most": 1.0}},
            "candidate": tree,
            "search": {"trials": 1},
        }
    )
    cost, plan = build.predict(candidate), build.compressed(candidate)[1]
    outcome = Outcome("complete", 0.0, 0.0, "cpu", accuracy=0.75)
    names = tuple(map(str, range(10)))
    facts = card.Facts(
        sweep=sweep,
        trial=7,
        candidate=candidate,
        names=names,
        outcome=outcome,
        plan=plan,
        cost=cost,
        agreement=Agreement(100, 0, 0.8, 0.8),
        doubt=None,
        sizes={},
        runtime={
            **{"latency_ms": 0.5, "float_latency_ms": 0.25},
            **{"latency_256_ms": 2994.1, "float_latency_256_ms": 99.96},
        },
        onnx=OnnxSize(1_000, 200, 3_000),
        splits={"training": 1_294, "validation": 144, "test": 100},
    )
    return card.write(replace(facts, **others))


def test_a_plain_network_has_32_bits_and_no_technique() -> None:
    assert lines(candidate_of()) == {"bits of weights": "32", "bits of activations": "32"}
    assert list(card.tags(candidate_of())) == []


def test_latencies_stand_beside_those_in_floats() -> None:
    card = card_of(candidate_of())
    assert "| one image (ms) | 0.5 | 0.25 |" in card
    assert "| 256 images at once (ms) | 2,994 | 100 |" in card
    assert "MiB" not in card.split("## Layers")[0].split("## What it takes")[1].split("Measured")[0]


def test_what_changes_nothing_is_not_told() -> None:
    candidate = candidate_of(
        structured_pruning={"ratio": 0.0},
        factorization={"kind": "svd", "ratio": 1.0},
        pruning={"sparsity": 0.0},
    )
    assert lines(candidate) == lines(candidate_of())
    assert list(card.tags(candidate)) == []


def test_every_technique_has_its_tag() -> None:
    candidate = candidate_of(
        distillation={"teacher": TEACHER},
        structured_pruning={"ratio": 0.3},
        factorization={"kind": "tucker", "ratio": 0.5},
        pruning={"sparsity": 0.5},
        quantization=widths(4, 8),
    )
    assert yaml.safe_load(card_of(candidate).split("---\n")[1])["tags"] == [
        "micronet-search",
        "onnx",
        "resnet",
        "structured-pruning",
        "factorization",
        "pruning",
        "quantization",
        "distillation",
    ]


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (
            {"quantization": widths(4, 8, mode="dynamic")},
            {
                "bits of weights": "4",
                "bits of activations": "8",
                "quantization of inputs": "dynamic: the range of a layer's inputs is computed from "
                "each image as it passes",
            },
        ),
        (
            {
                "quantization": widths(
                    1,
                    4,
                    first=widths(8, 8),
                    last={"weight_bits": 16},
                    blocks={"block2": widths(2, 3)},
                )
            },
            {
                "bits of weights": "1: signs, with a scale for each output channel",
                "bits of weights, the first layer": "8",
                "bits of weights, `block2`": "2",
                "bits of weights, the last layer": "16",
                "bits of activations": "4",
                "bits of activations, the first layer": "8",
                "bits of activations, `block2`": "3",
                "quantization of inputs": "static: the range of a layer's inputs was learned and "
                "is fixed",
            },
        ),
        # no input is rounded, so that the mode says nothing
        (
            {"quantization": widths(4, 32, mode="dynamic")},
            {"bits of weights": "4", "bits of activations": "32"},
        ),
        (
            {"structured_pruning": {"ratio": 0.305}},
            {
                "bits of weights": "32",
                "bits of activations": "32",
                "channels removed from each layer": "30.50%",
            },
        ),
        (
            {"factorization": {"kind": "svd", "ratio": 0.25}},
            {
                "bits of weights": "32",
                "bits of activations": "32",
                "factorization": "SVD: layers became products of two, through fewer channels",
                "rank, as a share of the full one": "25.00%",
            },
        ),
        (
            {"distillation": {"teacher": TEACHER}},
            {
                "bits of weights": "32",
                "bits of activations": "32",
                "teacher": "a ResNet, trained for 30 epochs",
                "temperature of the teacher's outputs": "4",
                "weight of the teacher's outputs in the loss": "0.5",
            },
        ),
        (
            {
                "distillation": {
                    "teacher": {"study": "large", "trial": 3},
                    "temperature": 2.5,
                    "weight": 1.0,
                }
            },
            {
                "bits of weights": "32",
                "bits of activations": "32",
                "teacher": "trial 3 of the study `large`",
                "temperature of the teacher's outputs": "2.5",
                "weight of the teacher's outputs in the loss": "1",
            },
        ),
        (
            {"start": {"study": "short", "trial": 7}},
            {
                "bits of weights": "32",
                "bits of activations": "32",
                "continued from": "trial 7 of the study `short`",
            },
        ),
    ],
    ids=[
        "dynamic",
        "widths apart",
        "weights alone",
        "channels",
        "factors",
        "teacher network",
        "teacher trial",
        "start",
    ],
)
def test_a_technique_has_its_lines(parts: dict[str, Any], expected: dict[str, str]) -> None:
    assert lines(candidate_of(**parts)) == expected


@pytest.mark.parametrize(
    ("network", "opening"),
    [(DENSENET, "A DenseNet"), (RESNET, "A ResNet"), (EFFICIENTNET, "An EfficientNet")],
    ids=["densenet", "resnet", "efficientnet"],
)
def test_a_card_names_the_family(network: dict[str, Any], opening: str) -> None:
    text = card_of(candidate_of(network, quantization=widths(4, 8)))
    assert f"\n{opening} that tells 10 classes of images of 8 x 8 pixels" in text
    assert "| bits of weights | 4 |" in text
    assert re.search(r"\{\w*\}", text) is None


# --- where it comes from, and what it is not for ---


def test_a_card_says_how_to_come_to_the_network_again() -> None:
    found = {"micronet-search": "0.0.9", "python": "3.11.1", "commit": "abc123", "dirty": "true"}
    text = card_of(candidate_of(), environment=found)
    assert "micronet-search run sweep.yaml\nmicronet-search export study --trial 7\n" in text
    assert "| images | 1,294 for training, 144 for validation, 100 for test |" in text
    assert f"| trial | 7; its randomness comes from the seed {seed_of(0, 7)} |" in text
    assert (
        "| commit | `abc123` with changes, of the folder in which the study was started |" in text
    )
    assert f"| micronet-search | 0.0.9 | {origin.version('micronet-search')} |" in text
    assert "| Python | 3.11.1 |" in text
    assert "| commit | not known: the study was started outside" in card_of(candidate_of())


def test_a_repeat_has_its_own_seed_and_commands() -> None:
    confirmation = Confirmation({1: 0.95, 2: 0.96, 3: 0.97}, 0, 100, True)
    repeated = {"repeat": Repeat(7, 2, True), "confirmation": confirmation}
    text = card_of(candidate_of(), **repeated, chosen="--best --at-least 0.8")
    assert "micronet-search confirm study --seeds 3 --full-train\n" in text
    assert "micronet-search export study --best --at-least 0.8\n" in text
    assert "Trained on all training images with 3 seeds, the candidate" in text
    once = card_of(candidate_of(), confirmation=Confirmation({1: 0.95}, 0, 100, False))
    assert "Trained on the training images with 1 seed, the candidate" in once
    told = "trial 7 with seed 2 on all training images; its randomness comes from the seed"
    assert f"| trial | {told} {seed_of(0, 'repeat', 7, 2)} |" in text
    assert "100 for test; those for validation were trained on too |" in text
    assert "The candidate is confirmed on them; of its trainings, this is the one of the" in text
    assert "It is not confirmed" not in text


def test_a_card_tells_the_limits() -> None:
    text = card_of(candidate_of())
    assert "It learned images like those of `digits` alone, 1,294 of them." in text
    assert "It is not confirmed: another training may miss the goal of 90.00%." in text
    assert "The test accuracy comes from 100 images, hence its interval of" in text
    assert "in floating point" not in text
    assert "in floating point" in card_of(candidate_of(quantization=widths(4, 8)))


def test_the_parts_of_the_onnx_file_are_told() -> None:
    text = card_of(candidate_of())
    table = [line.split(" | ")[1] for line in text.split("## Size of")[1].splitlines()[4:8]]
    assert table == ["1,000 |", "200 |", "3,000 |", "4,200 |"]


# --- the picture ---


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("network", [DENSENET, RESNET, EFFICIENTNET], ids=lambda n: n["family"])
def test_what_layers_add_is_the_score(network: dict[str, Any], rule: str) -> None:
    cost = build.predict(candidate_of(network, quantization=widths(4, 8)))
    rows, whole = picture.by_layer(cost, rule), RULES[rule](cost)
    assert sum(found.parameters for _, found in rows) == pytest.approx(whole.parameters)
    assert sum(found.operations for _, found in rows) == pytest.approx(whole.operations)
    names = [layer.name for layer in cost.layers]
    assert [name for name, _ in rows] == [name for name in names if name in dict(rows)]


def test_a_bar_by_hand() -> None:
    """A layer of 60 weights of 4 bits, 10 biases, and 11 scales, with 60 MACs of 8 bits."""
    small = {"family": "resnet", "stem": {"width": 4}, "widths": [6], "layers": [1]}
    cost = build.predict(candidate_of(small, quantization=widths(4, 8)))
    found = dict(picture.by_layer(cost, "imt"))["classifier"]
    assert found.parameters == pytest.approx((60 * 4 + 21 * 16) / 32 / 5.6e6)
    assert found.operations == pytest.approx(60 * 8 / 32 / 2.8e8)
    figure = picture.cost_figure(picture.by_layer(cost, "imt"), "imt")
    stored, computed = figure.axes[0].containers
    bars, whole = (stored.patches[-1], computed.patches[-1]), RULES["imt"](cost).score
    shares = [100 * part / whole for part in (found.parameters, found.operations)]
    assert [bar.get_width() for bar in bars] == pytest.approx(shares)
    assert bars[1].get_x() == pytest.approx(shares[0])


@pytest.mark.parametrize("layers", [[1], [6, 12, 8]], ids=["few", "many"])
def test_no_label_of_the_picture_is_over_another(layers: list[int]) -> None:
    """The background is white in every place, so that a dark page hides nothing."""
    cost = build.predict(candidate_of(DENSENET | {"layers": layers}, quantization=widths(4, 8)))
    figure = picture.cost_figure(picture.by_layer(cost, "imt"), "imt")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    axes = figure.axes[0]
    boxes = [label.get_window_extent() for label in axes.get_yticklabels()]
    boxes += [label.get_window_extent() for label in axes.texts]
    boxes += [figure.legends[0].get_window_extent(), axes.title.get_window_extent()]
    inside = figure.bbox.padded(1)
    assert all(inside.containsx(x) for box in boxes for x in box.intervalx)
    assert all(inside.containsy(y) for box in boxes for y in box.intervaly)
    for first, second in itertools.combinations(boxes, 2):
        assert not first.padded(-0.5).overlaps(second.padded(-0.5))
    shown = np.asarray(canvas.buffer_rgba())
    assert (shown[..., 3] == 255).all()
    assert (shown[0, 0] == 255).all()


def test_the_picture_is_the_same_for_the_same_network() -> None:
    cost = build.predict(candidate_of(quantization=widths(4, 8)))
    first = picture.draw(cost, "imt")
    assert first.startswith(b"\x89PNG")
    assert first == picture.draw(cost, "imt")
