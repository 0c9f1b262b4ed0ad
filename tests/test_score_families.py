"""Scores of a small compressed network of each family, counted by hand.

Weights have 4 bits and half of them are zero, inputs have 8 bits, the image is 1 x 8 x 8 and there
are 3 classes. All else that is stored has 16 bits: the scales of the weights (one for each output
channel of each convolution and the classifier), the scales of the inputs (one for each of these
but the first, which reads the image), the biases (a folded norm leaves one for each channel) and
the norms that are not folded (two values a channel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import TypeAdapter

from micronet_search.compression.graph import folded
from micronet_search.config.compression import Quantization
from micronet_search.config.network import Input, Network
from micronet_search.network import family
from micronet_search.network.precision import plan
from micronet_search.network.shapes import passes, weighted
from micronet_search.scoring.cost import Cost, count
from micronet_search.scoring.rules import imt, micronet2019

STATIC = Quantization(weight_bits=4, activation_bits=8)
DYNAMIC = STATIC.model_copy(update={"mode": "dynamic"})


@dataclass(frozen=True)
class Hand:
    """What was counted by hand.

    Attributes:
        network: A family's fields.
        weights: Elements, nonzeros and packed bits of each layer's weights.
        scales: Of weights.
        input_scales: One for each layer but the first.
        biases: And the values of norms.
        macs: Of each layer.
        additions: Of convolutions and the classifier; as many as their multiplications where each
            output has a bias, and one an output less where it has none.
        other_multiplications: Of norms, activations, gates and pools, in 16 bits.
        other_additions: Of norms, activations, residual sums and pools.
    """

    network: dict[str, Any]
    weights: list[tuple[int, int, int]]
    scales: int
    input_scales: int
    biases: int
    macs: list[int]
    additions: list[int]
    other_multiplications: int
    other_additions: int


DENSENET = Hand(
    network={
        "family": "densenet",
        "stem": {"width": 4},
        "growth_rate": 2,
        "layers": [1, 1],
        "bottleneck": 1,
    },
    weights=[
        (1 * 4 * 9, 18, 108),  # stem; 18 in 4 bits and a mask of 36 bits
        (4 * 2, 4, 24),  # block 1: bottleneck
        (2 * 2 * 9, 18, 108),  # 3x3
        (6 * 3, 9, 54),  # transition from 4 + 2 channels to half
        (3 * 2, 3, 18),  # block 2: bottleneck
        (2 * 2 * 9, 18, 108),  # 3x3
        (5 * 3, 8, 47),  # classifier: half of 15, rounded down, is zero; 8 x 4 and 15
    ],
    scales=4 + 2 + 2 + 3 + 2 + 2 + 3,
    input_scales=6,
    # folded: the norm between bottleneck and 3x3, twice; then the classifier's bias; whole: norms
    # of 4 (the stem's output is joined, too), 4 + 2 (joined), 3 (pooled) and 3 + 2 (joined)
    biases=2 + 2 + 3 + 2 * (4 + 6 + 3 + 5),
    macs=[
        36 * 64,  # 8 x 8 pixels
        8 * 64,
        36 * 64,
        18 * 64,
        6 * 16,  # 4 x 4 after the transition's pool
        36 * 16,
        15,
    ],
    additions=[
        18 * 64 - 4 * 64,  # 4 outputs a pixel, without bias
        4 * 64,
        18 * 64 - 2 * 64,
        9 * 64 - 3 * 64,
        3 * 16,
        18 * 16 - 2 * 16,
        8,
    ],
    other_multiplications=sum(
        [
            (4 + 6) * 64 + (3 + 5) * 16,  # norms that are not folded
            (4 + 2 + 6) * 64 + (3 + 2 + 5) * 16,  # ReLUs
            3 * 16,  # the transition's mean of 2 x 2
            5,  # the mean of 4 x 4
        ]
    ),
    other_additions=(4 + 6) * 64 + (3 + 5) * 16 + 3 * 3 * 16 + 15 * 5,  # norms, means
)

RESNET = Hand(
    network={
        "family": "resnet",
        "stem": {"width": 4},
        "widths": [4, 8],
        "layers": 1,
        "groups": [2, 1],
    },
    weights=[  # all even: half of them in 4 bits and a mask are 3 bits an element
        (1 * 4 * 9, 18, 108),  # stem
        (2 * 2 * 2 * 9, 36, 216),  # block 1: two groups of 2 to 2 channels
        (2 * 2 * 2 * 9, 36, 216),
        (4 * 8 * 9, 144, 864),  # block 2
        (8 * 8 * 9, 288, 1728),
        (4 * 8, 16, 96),  # projection
        (8 * 3, 12, 72),  # classifier
    ],
    scales=4 + 4 + 4 + 8 + 8 + 8 + 3,
    input_scales=6,
    biases=4 + 4 + 4 + 8 + 8 + 8 + 3,  # each norm follows a convolution
    macs=[36 * 64, 72 * 64, 72 * 64, 288 * 16, 576 * 16, 32 * 16, 24],
    additions=[18 * 64, 36 * 64, 36 * 64, 144 * 16, 288 * 16, 16 * 16, 12],
    other_multiplications=sum(
        [
            4 * 64,  # the stem's ReLU
            2 * 4 * 64 + 2 * 8 * 16,  # within and after the two residual sums
            8,  # the mean of 4 x 4
        ]
    ),
    other_additions=4 * 64 + 8 * 16 + 15 * 8,  # residual sums, mean
)

SEPARABLE = Hand(
    network={
        "family": "resnet",
        "stem": {"width": 4},
        "widths": [4],
        "layers": 1,
        "convolution": "separable",
        "between": "nothing",
    },
    weights=[
        (1 * 4 * 9, 18, 108),  # stem
        (4 * 9, 18, 108),  # depthwise
        (4 * 4, 8, 48),  # pointwise
        (4 * 9, 18, 108),
        (4 * 4, 8, 48),
        (4 * 3, 6, 36),  # classifier
    ],
    scales=4 + 4 + 4 + 4 + 4 + 3,
    input_scales=5,
    biases=4 + 4 + 4 + 3,  # a depthwise half without a norm has none
    macs=[36 * 64, 36 * 64, 16 * 64, 36 * 64, 16 * 64, 12],
    additions=[18 * 64, 18 * 64 - 4 * 64, 8 * 64, 18 * 64 - 4 * 64, 8 * 64, 6],
    other_multiplications=3 * 4 * 64 + 4,  # ReLUs after stem, pair and sum; the mean of 8 x 8
    other_additions=4 * 64 + 63 * 4,  # residual sum, mean
)

EFFICIENTNET = Hand(
    network={
        "family": "efficientnet",
        "stem": {"width": 4},
        "widths": [4],
        "layers": 1,
        "expansions": 2,
        "squeeze": 0.5,
        "activation": "silu",
        "head": 6,
    },
    weights=[
        (1 * 4 * 9, 18, 108),  # stem
        (4 * 8, 16, 96),  # expand
        (8 * 9, 36, 216),  # depthwise
        (8 * 2, 8, 48),  # squeeze to half of the 4 channels that enter
        (2 * 8, 8, 48),  # excite
        (8 * 4, 16, 96),  # project
        (4 * 6, 12, 72),  # head
        (6 * 3, 9, 54),  # classifier
    ],
    scales=4 + 8 + 8 + 2 + 8 + 4 + 6 + 3,
    input_scales=7,
    biases=4 + 8 + 8 + 2 + 8 + 4 + 6 + 3,
    macs=[36 * 64, 32 * 64, 72 * 64, 16, 16, 32 * 64, 24 * 64, 18],
    additions=[18 * 64, 16 * 64, 36 * 64, 8, 8, 16 * 64, 12 * 64, 9],
    other_multiplications=sum(
        [
            3 * ((4 + 8 + 8 + 6) * 64 + 2),  # SiLU: stem, expand, depthwise, head; squeeze
            2 * 8,  # sigmoid
            8 * 64,  # the image times its gates
            8 + 6,  # the means of 8 x 8
        ]
    ),
    other_additions=sum(
        [
            (4 + 8 + 8 + 6) * 64 + 2,  # SiLU
            8,  # sigmoid
            4 * 64,  # residual sum
            63 * (8 + 6),  # means
        ]
    ),
)

FAMILIES = pytest.mark.parametrize(
    "hand",
    [DENSENET, RESNET, SEPARABLE, EFFICIENTNET],
    ids=["densenet", "resnet", "separable", "efficientnet"],
)


def counted(hand: Hand, quantization: Quantization) -> Cost:
    config = TypeAdapter(Network).validate_python(hand.network)
    layers = passes(family.describe(config, 1, 3), Input(channels=1, height=8, width=8))
    widths = plan(quantization, weighted(layers))
    sparsity = dict.fromkeys(weighted(layers), 0.5)
    return count(layers, widths, sparsity=sparsity, folded=folded(layers, widths))


@FAMILIES
@pytest.mark.parametrize("quantization", [STATIC, DYNAMIC], ids=["static", "dynamic"])
def test_both_rules_by_hand(hand: Hand, quantization: Quantization) -> None:
    cost = counted(hand, quantization)
    half = hand.scales + hand.biases + (hand.input_scales if quantization.mode == "static" else 0)
    nonzeros = sum(nonzeros for _, nonzeros, _ in hand.weights)

    course = imt(cost)
    assert course.parameters == pytest.approx((nonzeros * 4 + half * 16) / 32 / 5.6e6)
    assert course.operations == pytest.approx(sum(hand.macs) * 8 / 32 / 2.8e8)

    stored = sum(packed for _, _, packed in hand.weights) + half * 16
    multiplied = [
        macs * nonzeros // weights
        for macs, (weights, nonzeros, _) in zip(hand.macs, hand.weights, strict=True)
    ]
    multiplications = sum(multiplied) * 8 + hand.other_multiplications * 32
    additions = sum(hand.additions) + hand.other_additions
    challenge = micronet2019(cost)
    assert challenge.parameters == pytest.approx(stored / 32 / 36.5e6)
    assert challenge.operations == pytest.approx((multiplications / 32 + additions) / 10.49e9)


@FAMILIES
def test_the_table_has_a_row_for_each_layer_in_the_order_of_the_image(hand: Hand) -> None:
    rows = [row for row in counted(hand, STATIC).layers if row.macs]
    assert [row.stored[0].elements for row in rows] == [elements for elements, *_ in hand.weights]
    assert [row.macs for row in rows] == hand.macs
    assert {(row.weight_bits, row.activation_bits) for row in rows} == {(4, 8)}
