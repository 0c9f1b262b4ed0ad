"""Which layer gets which bit width."""

from __future__ import annotations

from typing import Any

import pytest

from micronet_search.config.compression import Quantization
from micronet_search.network.precision import Plan, Precision, layer_sets_of, plan

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


DEEP = ("stem", "block1.0.conv", "block1.transition", "block12.0.conv", "norm.x", "classifier")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("stem.conv.0", {"first"}),
        ("stem.conv.1", {"first"}),
        ("block1.0.conv", {"block1"}),
        ("block1.transition.2", {"block1"}),
        ("block12.0.body.0.conv", {"block12"}),
        ("head.conv", set()),
        ("classifier.0", {"last"}),
        ("classifier.1", {"last"}),
    ],
)
def test_a_layer_is_in_the_sets_that_its_name_begins_with(name: str, expected: set[str]) -> None:
    names = ["stem.conv.0", "stem.conv.1", "block1.0.conv", "classifier.0", "classifier.1"]
    assert layer_sets_of(name, names) == expected


def test_a_block_has_its_own_widths() -> None:
    quantization = Quantization.model_validate(
        {
            "weight_bits": 4,
            "activation_bits": 8,
            "blocks": {"block1": {"weight_bits": 1}, "block12": {"activation_bits": 3}},
        }
    )
    assert plan(quantization, DEEP).layers == {
        "stem": Precision(4, 8, image=True),
        "block1.0.conv": Precision(1, 8),
        "block1.transition": Precision(1, 8),
        "block12.0.conv": Precision(4, 3),
        "norm.x": Precision(4, 8),
        "classifier": Precision(4, 8),
    }


def test_first_overrides_last_overrides_blocks_overrides_the_body() -> None:
    """Layers that are all three at once: the factors of a single one."""
    fields: dict[str, Any] = {"weight_bits": 16, "activation_bits": 16}
    apart: list[tuple[str, dict[str, Any]]] = [
        ("blocks", {"block1": {"weight_bits": 2, "activation_bits": 2}}),
        ("last", {"weight_bits": 3, "activation_bits": 3}),
        ("first", {"weight_bits": 4, "activation_bits": 4}),
    ]
    found = []
    for name, widths in apart:
        fields[name] = widths
        planned = plan(Quantization.model_validate(fields), ["block1.conv", "block1.other"])
        found.append([(p.weight_bits, p.activation_bits) for p in planned.layers.values()])
    assert found == [[(2, 8), (2, 2)], [(3, 8), (3, 3)], [(4, 4), (4, 4)]]
    alone = plan(Quantization.model_validate(fields), ["block1.conv"]).layers["block1.conv"]
    assert alone == Precision(4, 4)
    fields["first"] = {"activation_bits": 4}
    alone = plan(Quantization.model_validate(fields), ["block1.conv"]).layers["block1.conv"]
    assert alone == Precision(3, 4)


@pytest.mark.parametrize(
    ("mode", "stored"),
    [("static", {"stem": False, "body": True}), ("dynamic", {"stem": False, "body": False})],
)
def test_the_scale_of_an_input_is_stored_where_it_is_fixed(
    mode: str, stored: dict[str, bool]
) -> None:
    layers = planned(4, 8, mode=mode, last={"activation_bits": 16}).layers
    assert {n: p.stores_input_scale for n, p in layers.items()} == stored | {"classifier": False}
    assert [p.dynamic for p in layers.values()] == [False, mode == "dynamic", False]
    assert layers["body"].scales_input


def test_an_image_of_fewer_bits_is_scaled_as_it_passes() -> None:
    layers = planned(16, 16, mode="dynamic", first={"activation_bits": 4}).layers
    assert layers["stem"] == Precision(16, 4, dynamic=True)
    assert layers["body"] == Precision(16, 16)


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
        pytest.param(1, 32, {}, 16, True, id="signs"),
        pytest.param(32, 8, {}, 16, True, id="integer-activations"),
        pytest.param(32, 8, {"mode": "dynamic"}, 16, True, id="dynamic"),
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
