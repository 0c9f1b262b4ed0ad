"""Which layer gets which bit width."""

from __future__ import annotations

from typing import Any

import pytest

from micronet_search.config.compression import Quantization
from micronet_search.score.precision import Plan, Precision, plan

NAMES = ("stem", "body", "classifier")


def planned(weights: int, activations: int, **changes: Any) -> Plan:
    fields = {"weight_bits": weights, "activation_bits": activations} | changes
    return plan(Quantization.model_validate(fields), NAMES)


def test_every_layer_takes_the_widths_of_the_body() -> None:
    assert planned(4, 8).layers == {
        "stem": Precision(4, 8, image=True),
        "body": Precision(4, 8),
        "classifier": Precision(4, 8),
    }


def test_first_and_last_are_set_apart() -> None:
    first, last = {"weight_bits": 8}, {"weight_bits": 16, "activation_bits": 2}
    assert planned(4, 8, first=first, last=last).layers == {
        "stem": Precision(8, 8, image=True),
        "body": Precision(4, 8),
        "classifier": Precision(16, 2),
    }


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (None, Precision(16, 8, image=True)),
        (32, Precision(16, 8, image=True)),
        (16, Precision(16, 8, image=True)),
        (8, Precision(16, 8, image=True)),
        (7, Precision(16, 7)),
        (2, Precision(16, 2)),
    ],
)
def test_the_image_has_eight_bits_or_the_fewer_that_are_asked(
    asked: int | None, expected: Precision
) -> None:
    found = planned(16, 16, first={"activation_bits": asked}).layers["stem"]
    assert found == expected
    assert found.scales_input == (asked is not None and asked < 8)


@pytest.mark.parametrize(
    ("weights", "activations", "changes", "rest_bits", "integer"),
    [
        pytest.param(32, 32, {}, 32, False, id="single"),
        pytest.param(16, 16, {}, 16, False, id="half"),
        pytest.param(16, 32, {}, 16, False, id="half-weights"),
        pytest.param(8, 32, {}, 16, True, id="integer-weights"),
        pytest.param(32, 8, {}, 16, True, id="integer-activations"),
        pytest.param(32, 32, {"last": {"weight_bits": 2}}, 16, True, id="last-alone"),
        pytest.param(32, 32, {"first": {"activation_bits": 8}}, 32, False, id="image-as-is"),
        pytest.param(32, 32, {"first": {"activation_bits": 4}}, 16, True, id="image-less"),
    ],
)
def test_the_rest_is_half_where_anything_is_narrower_than_single(
    weights: int,
    activations: int,
    changes: dict[str, Any],
    rest_bits: int,
    integer: bool,
) -> None:
    found = planned(weights, activations, **changes)
    assert (found.rest_bits, found.integer) == (rest_bits, integer)


def test_no_quantization_is_single_precision() -> None:
    found = plan(None, NAMES)
    assert found.rest_bits == 32
    assert {p.weight_bits for p in found.layers.values()} == {32}
    assert not found.integer
