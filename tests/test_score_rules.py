"""The rules, on networks whose figures are published or counted by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import yaml

from micronet_search import build
from micronet_search.config.candidate import Candidate
from micronet_search.config.compression import Quantization
from micronet_search.config.network import Input, ResNet
from micronet_search.network import family
from micronet_search.network.precision import plan
from micronet_search.network.shapes import passes, weighted
from micronet_search.network.tensors import Role
from micronet_search.scoring.cost import Cost, Layer, Stored, count
from micronet_search.scoring.rules import imt, micronet2019, scores


def tensor(layer: str, role: Role, elements: int, bits: int, nonzeros: int | None = None) -> Stored:
    return Stored(layer, role, (elements,), bits, elements if nonzeros is None else nonzeros)


def conv(ins: int, outs: int, side: int, kernel: int = 3, bits: int = 32) -> Layer:
    weights = ins * outs * kernel**2
    stored = (tensor("conv", "weight", weights, bits),)
    return Layer("conv", "conv", stored, bits, bits, weights * side**2, outs * side**2)


def linear(ins: int, outs: int, bits: int = 32) -> Layer:
    stored = (tensor("linear", "weight", ins * outs, bits), tensor("linear", "bias", outs, bits))
    return Layer("linear", "linear", stored, bits, bits, ins * outs, outs)


def norm(channels: int, side: int, bits: int = 32) -> Layer:
    stored = (tensor("norm", "weight", channels, bits), tensor("norm", "bias", channels, bits))
    return Layer("norm", "norm", stored, bits, bits, 0, channels * side**2)


def elementwise(kind: str, channels: int, side: int, bits: int = 16) -> Layer:
    return Layer(kind, kind, (), bits, bits, 0, channels * side**2)


def relu(channels: int, side: int) -> Layer:
    return elementwise("relu", channels, side, 32)


def pool(channels: int, side: int, window: int, bits: int = 32) -> Layer:
    return Layer("pool", "pool", (), bits, bits, 0, channels * side**2, window)


def cost(*layers: Layer, integer: bool = True) -> Cost:
    return Cost(layers, sum(layer.elements for layer in layers), integer)


def resnet18(bits: Literal[16, 32]) -> Cost:
    """He et al.'s ResNet-18 as CIFAR has it: a 3x3 stem and no pooling after it."""
    config = ResNet.model_validate(
        {"family": "resnet", "stem": {"width": 64}, "widths": [64, 128, 256, 512], "layers": 2}
    )
    layers = passes(family.describe(config, 3, 10), Input())
    quantization = Quantization(weight_bits=bits, activation_bits=bits)
    return count(layers, plan(quantization, weighted(layers)), sparsity={}, folded={})


def wide_resnet_28_10() -> Cost:
    """Zagoruyko and Komodakis' network for CIFAR-100, a norm before each convolution."""
    layers, width = [conv(3, 16, 32)], 16
    for stage, outs in enumerate((160, 320, 640)):
        side = 32 >> stage
        for block in range(4):
            entering = side * 2 if stage and not block else side
            layers += [norm(width, entering), relu(width, entering), conv(width, outs, side)]
            layers += [norm(outs, side), relu(outs, side), conv(outs, outs, side)]
            if width != outs:
                layers.append(conv(width, outs, side, 1))
            width = outs
    layers += [norm(640, 8), relu(640, 8), pool(640, 1, 64), linear(640, 100)]
    return cost(*layers, integer=False)


def test_imt_of_the_cifar_resnet18() -> None:
    found = resnet18(16)
    assert found.parameters == 11_173_962
    assert found.macs == 555_422_720
    assert imt(found).score == pytest.approx(1.98950, abs=5e-6)
    assert imt(resnet18(32)).score == pytest.approx(2 * 1.98950, abs=1e-5)


def test_micronet2019_divides_by_wide_resnet_28_10() -> None:
    """36.5e6 and 10.49e9 are the table's own sums in single precision.

    To four digits it does not matter for 10.49e9 what is done about the norms: without them it is
    10.4865e9, folded into biases 10.4891e9, counted 10.4911e9, with residual additions 10.4923e9.
    """
    single = Cost(wide_resnet_28_10().layers, 0, integer=True)
    found = micronet2019(single)
    assert single.nonzeros == 36_536_884
    assert found.parameters == pytest.approx(36_536_884 / 36.5e6)
    assert found.operations == pytest.approx(10_491_147_264 / 10.49e9, rel=1e-12)
    assert found.score == pytest.approx(2.0, rel=2e-3)

    unnormed = cost(*(layer for layer in single.layers if layer.kind != "norm"))
    assert f"{micronet2019(unnormed).operations * 10.49:.2f}" == "10.49"


def test_micronet2019_grants_half_precision_where_no_layer_is_integer() -> None:
    free, paid = wide_resnet_28_10(), Cost(wide_resnet_28_10().layers, 0, integer=True)
    assert micronet2019(free).parameters == micronet2019(paid).parameters / 2
    multiplications, additions = 5_248_007_296, 5_243_139_968
    assert micronet2019(paid).operations == (multiplications + additions) / 10.49e9
    assert micronet2019(free).operations == (multiplications / 2 + additions) / 10.49e9


@pytest.mark.parametrize(
    ("layers", "parameters", "multiplications", "additions"),
    [
        # 2 x 9 weights in 8 bits; 4 x 4 x 2 dot products of 9
        pytest.param([conv(1, 2, 4, bits=8)], 18 * 8, 288 * 8, 256, id="convolution"),
        # a bias makes the additions as many as the multiplications
        pytest.param([linear(6, 5, bits=4)], 35 * 4, 30 * 4, 30, id="linear-with-bias"),
        pytest.param([norm(3, 2, bits=16)], 6 * 16, 12 * 16, 12, id="norm"),
        pytest.param([elementwise("relu", 3, 2)], 0, 12 * 16, 0, id="relu"),
        pytest.param([elementwise("add", 3, 2)], 0, 0, 12, id="residual-sum"),
        pytest.param([elementwise("scale", 3, 2)], 0, 12 * 16, 0, id="scaling"),
        # exp(x) / (1 + exp(x)) and x / (1 + exp(-x)), as the challenge's code has them
        pytest.param([elementwise("sigmoid", 3, 2)], 0, 24 * 16, 12, id="sigmoid"),
        pytest.param([elementwise("swish", 3, 2)], 0, 36 * 16, 12, id="swish"),
        # 3 means of 16: 15 additions and a multiplication each
        pytest.param([pool(3, 1, 16, bits=16)], 0, 3 * 16, 45, id="pool"),
    ],
)
def test_micronet2019_by_hand(
    layers: list[Layer], parameters: int, multiplications: int, additions: int
) -> None:
    found = micronet2019(cost(*layers))
    assert found.parameters == pytest.approx(parameters / 32 / 36.5e6)
    assert found.operations == pytest.approx((multiplications / 32 + additions) / 10.49e9)


def sparse(nonzeros: int, weight_bits: int, activation_bits: int) -> Cost:
    """A 1x1 convolution from 10 to 10 channels on 3 x 3 pixels, some of its weights zero."""
    stored = (tensor("conv", "weight", 100, weight_bits, nonzeros),)
    return cost(Layer("conv", "conv", stored, weight_bits, activation_bits, 900, 90))


@pytest.mark.parametrize(
    ("nonzeros", "weight_bits", "stored_bits"),
    [
        pytest.param(20, 8, 260, id="bitmask"),
        pytest.param(90, 4, 400, id="dense-is-smaller"),
        pytest.param(100, 8, 800, id="no-zeros"),
        pytest.param(0, 8, 100, id="all-zero"),
    ],
)
def test_zeros(nonzeros: int, weight_bits: int, stored_bits: int) -> None:
    found = sparse(nonzeros, weight_bits, 16)
    assert found.storage_bits == stored_bits

    challenge = micronet2019(found)
    multiplications, additions = 9 * nonzeros, max(9 * nonzeros - 90, 0)
    assert challenge.parameters == pytest.approx(stored_bits / 32 / 36.5e6)
    assert challenge.operations == pytest.approx((multiplications * 16 / 32 + additions) / 10.49e9)

    course = imt(found)
    assert course.parameters == pytest.approx(nonzeros * weight_bits / 32 / 5.6e6)
    assert course.operations == pytest.approx(900 * 16 / 32 / 2.8e8)


@pytest.mark.parametrize(("weights", "activations"), [(2, 8), (8, 2), (4, 32), (16, 8)])
def test_a_multiplication_counts_at_the_wider_input(weights: int, activations: int) -> None:
    found = imt(sparse(100, weights, activations))
    assert found.operations == pytest.approx(900 * max(weights, activations) / 32 / 2.8e8)


def test_a_score_is_the_sum_of_its_parts() -> None:
    for score in scores(resnet18(16)).values():
        assert score.to_json() == {
            "parameters": score.parameters,
            "operations": score.operations,
            "score": score.parameters + score.operations,
        }


def test_half_precision_never_costs_more_than_single() -> None:
    """The 16 free bits hold where no layer is integer, however the widths are written down."""
    config = ResNet.model_validate(
        {"family": "resnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1}
    )
    layers, found = passes(family.describe(config, 3, 10), Input()), []
    for bits in (None, (16, 32), (32, 16), (16, 16)):
        asked = bits and Quantization.model_validate(
            {"weight_bits": bits[0], "activation_bits": bits[1]}
        )
        cost = count(layers, plan(asked, weighted(layers)), sparsity={}, folded={})
        found.append(micronet2019(cost).score)
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("bits", "nonzeros", "charged"),
    [
        pytest.param(1, 100, 100, id="signs"),
        pytest.param(1, 99, 198, id="ternary"),
        pytest.param(1, 0, 0, id="all-zero"),
        pytest.param(2, 40, 80, id="two-bits"),
    ],
)
def test_signs_with_zeros_among_them_count_two_bits_in_imt(
    bits: int, nonzeros: int, charged: int
) -> None:
    found = imt(sparse(nonzeros, bits, 8))
    assert found.parameters == pytest.approx(charged / 32 / 5.6e6)
    assert found.operations == pytest.approx(900 * 8 / 32 / 2.8e8)


@pytest.mark.parametrize(("bits", "passing"), [(4, 32), (16, 16), (32, 32)])
def test_beside_integers_all_else_is_computed_in_single_precision(
    bits: Literal[4, 16, 32], passing: int
) -> None:
    config = ResNet.model_validate(
        {"family": "resnet", "stem": {"width": 8}, "widths": [8], "layers": 1}
    )
    layers = passes(family.describe(config, 3, 10), Input())
    quantization = Quantization(weight_bits=bits, activation_bits=bits)
    found = count(layers, plan(quantization, weighted(layers)), sparsity={}, folded={})
    kinds = {layer.kind: layer.bits for layer in found.layers}
    assert {kinds[kind] for kind in ("relu", "add", "pool", "norm")} == {passing}
    norm = next(layer for layer in found.layers if layer.kind == "norm")
    assert {stored.bits for stored in norm.stored} == {32 if bits == 32 else 16}


def test_the_example_of_the_docs() -> None:
    text = (Path(__file__).parent.parent / "docs" / "scores.md").read_text()
    tree = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    found = build.predict(Candidate.model_validate(tree))
    figures = {name: f"{score.score:.10f}" for name, score in scores(found).items()}
    assert figures == {"imt": "0.0000477768", "micronet2019": "0.0000050890"}
    assert all(figure in text for figure in figures.values())
    assert found.storage_bits == 3068
