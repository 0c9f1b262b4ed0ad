from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from exports import DENSENET, DIGITS, EFFICIENTNET, RESNET, widths

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import read_candidate
from micronet_search.config.sweep import Sweep
from micronet_search.export import card
from micronet_search.export.check import Agreement
from micronet_search.store.outcome import Outcome

TRAINING = {"epochs": 3, "learning_rate": 0.1}
TEACHER = {"network": RESNET, "training": {"epochs": 30, "learning_rate": 0.01}}


def candidate_of(network: dict[str, Any] = RESNET, **parts: Any) -> Candidate:
    return read_candidate({"network": network, "training": TRAINING, **parts}, DIGITS, 10)


def lines(candidate: Candidate) -> dict[str, str]:
    return dict(card.figures(candidate, build.compressed(candidate)[1]))


def card_of(candidate: Candidate) -> str:
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
    agreement = Agreement(100, 0, 0.8, 0.8)
    return card.write(
        card.Facts(sweep, 7, candidate, names, outcome, plan, cost, agreement, None, {}, {})
    )


def test_a_plain_network_has_32_bits_and_no_technique() -> None:
    assert lines(candidate_of()) == {"bits of weights": "32", "bits of activations": "32"}
    assert list(card.tags(candidate_of())) == []


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
