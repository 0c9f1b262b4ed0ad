"""The predicted cost against what trained networks store, for all widths."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from candidates import reshape
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from micronet_search import build
from micronet_search.compression import stored, structured_pruning
from micronet_search.compression.graph import fold
from micronet_search.compression.pruning import prune
from micronet_search.compression.quantization import calibrate, insert
from micronet_search.config.candidate import Candidate
from micronet_search.config.network import Input
from micronet_search.scoring.rules import imt

BITS = (2, 3, 4, 5, 6, 7, 8, 16, 32)


@st.composite
def candidates(draw: st.DrawFn) -> Candidate:
    bits = st.sampled_from(BITS)
    blocks = draw(st.integers(1, 3))
    counts = st.lists(st.integers(1, 3), min_size=blocks, max_size=blocks)

    def widths() -> dict[str, Any]:
        some = st.none() | bits
        return {"weight_bits": draw(some), "activation_bits": draw(some)}

    tree: dict[str, Any] = {
        "input": {"channels": draw(st.integers(1, 3)), "height": 16, "width": 20},
        "classes": draw(st.integers(2, 5)),
        "network": {
            "family": "densenet",
            "stem": {"width": draw(st.integers(1, 8)), "stride": draw(st.sampled_from([1, 2]))},
            "growth_rate": draw(st.integers(1, 6)),
            "layers": draw(counts),
            "groups": draw(counts),
            "pointwise_groups": draw(counts),
            "bottleneck": draw(st.integers(0, 2)),
        },
        "training": {"epochs": 1, "learning_rate": 0.1},
    }
    if draw(st.booleans()):
        tree["pruning"] = {"sparsity": draw(st.floats(0.0, 0.95))}
    if draw(st.booleans()):
        tree["quantization"] = {
            "weight_bits": draw(bits),
            "activation_bits": draw(bits),
            "first": widths(),
            "last": widths(),
        }
    return Candidate.model_validate(tree)


def compressed(candidate: Candidate) -> dict[str, Tensor]:
    """The stored tensors of an untrained network, through the same steps as a trained one."""
    network = build.network(candidate)
    if candidate.pruning:
        prune(network, candidate.pruning.sparsity)
    plan = build.plan(candidate, network)
    insert(network, plan)
    if plan.integer:
        size = candidate.input
        calibrate(network, [torch.randn(2, size.channels, size.height, size.width)])
    fold(network, plan)
    return stored.store(network, plan)


def plain_macs(candidate: Candidate) -> int:
    size = candidate.input
    with torch.device("meta"):
        network = build.network(candidate).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, size.channels, size.height, size.width))
    return counter.get_total_flops() // 2


@settings(max_examples=40)
@given(candidates())
def test_the_prediction_is_what_is_measured(candidate: Candidate) -> None:
    predicted = build.predict(candidate)
    measured = predicted.measured(compressed(candidate))
    assert predicted.macs == plain_macs(candidate)
    assert predicted.parameters == sum(p.numel() for p in build.network(candidate).parameters())
    assert measured.nonzeros <= predicted.nonzeros
    assert imt(measured).operations == imt(predicted).operations
    assert imt(measured).score <= imt(predicted).score


@settings(max_examples=25)
@given(candidates())
def test_imt_recounted_from_the_tensors_alone(candidate: Candidate) -> None:
    """Shapes, types and the candidate's own fields; nothing of the layer table but the MACs."""
    tensors = compressed(candidate)
    rows = build.predict(candidate).layers
    macs = {row.name: row.macs for row in rows if row.macs}
    asked = candidate.quantization
    first, last = next(iter(macs)), list(macs)[-1]

    def bits_of(name: str, field: str) -> int:
        if asked is None:
            return 8 if name == first and field == "activation_bits" else 32
        part = asked.first if name == first else asked.last if name == last else None
        own: int | None = getattr(part, field) if part else None
        if name == first and field == "activation_bits":
            return min(own or 8, 8)
        return own or getattr(asked, field)

    parameters = 0.0
    for name, tensor in tensors.items():
        layer = name.removesuffix(".weight")
        bits = 8 * tensor.element_size()
        if tensor.dtype == torch.int8:
            bits = bits_of(layer, "weight_bits")
        parameters += int((tensor != 0).sum()) * bits / 32 / 5.6e6
    operations = sum(
        count * max(bits_of(name, "weight_bits"), bits_of(name, "activation_bits")) / 32 / 2.8e8
        for name, count in macs.items()
    )
    found = imt(build.predict(candidate).measured(tensors))
    assert found.parameters == pytest.approx(parameters)
    assert found.operations == pytest.approx(operations)


@settings(max_examples=20)
@given(candidates())
def test_compressed_runs(candidate: Candidate) -> None:
    network, plan = build.compressed(candidate)
    size = candidate.input
    output = network.eval()(torch.zeros(2, size.channels, size.height, size.width))
    assert output.shape == (2, candidate.classes)
    assert plan == build.planned(candidate)[0]


def test_a_seed_makes_a_network_and_leaves_the_global_one() -> None:
    candidate = Candidate.model_validate(
        {
            "network": {
                "family": "densenet",
                "stem": {"width": 4},
                "growth_rate": 4,
                "layers": [1],
            },
            "training": {"epochs": 1, "learning_rate": 0.1},
        }
    )
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, again, other = (build.network(candidate, seed) for seed in (5, 5, 6))
    assert torch.equal(torch.rand(3), expected)
    stems = [network.get_parameter("stem.weight") for network in (first, again, other)]
    assert torch.equal(stems[0], stems[1])
    assert not torch.equal(stems[0], stems[2])


@settings(max_examples=40)
@given(candidates())
def test_the_layout_is_that_of_the_stored_tensors(candidate: Candidate) -> None:
    found = {name: (t.shape, t.dtype) for name, t in build.layout(candidate).items()}
    tensors = compressed(candidate)
    assert found == {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}


def giant(**changes: Any) -> Candidate:
    network = {"family": "densenet", "stem": {"width": 64}, "growth_rate": 64, "layers": [6, 6]}
    return Candidate.model_validate(
        {
            "network": network | changes,
            "training": {"epochs": 1, "learning_rate": 0.1},
            "structured_pruning": {"ratio": 0.5},
        }
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"stem": {"width": 4096}, "growth_rate": 1024},
            r"thin has [\d,]+ parameters, expected at",
        ),
        (
            {"layers": [40, *[1] * 5], "growth_rate": 512, "bottleneck": 8, "pointwise_groups": 512}
            | {"groups": 512},
            r"thin has [\d,]+ values between its layers, expected at most 100,000,000",
        ),
    ],
)
def test_a_giant_is_not_built_to_be_thinned(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(build.TooLargeError, match=message):
        build.predict(giant(**changes))


@pytest.mark.parametrize("size", [32, 33, 47])
def test_what_thinning_leaves_does_not_depend_on_the_image(size: int) -> None:
    """It is found with the smallest image, which takes little memory."""
    candidate = giant(stem={"width": 8, "stride": 2}, growth_rate=4, layers=[2, 1], groups=2)
    image = Input(height=size, width=size + 3)
    candidate = candidate.model_copy(update={"input": image})
    thinned, expected = (build.network(candidate, seed=3) for _ in range(2))
    reshape(thinned, candidate)
    structured_pruning.thin(expected, image, 0.5)
    found, wanted = thinned.state_dict(), expected.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
