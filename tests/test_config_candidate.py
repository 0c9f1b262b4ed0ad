from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml, load_candidate, read_candidate
from micronet_search.config.loading import ConfigError
from micronet_search.config.network import DenseNet, round_up

NETWORK: dict[str, Any] = {
    "family": "densenet",
    "stem": {"width": 10},
    "growth_rate": 10,
    "layers": [2, 2],
}
TRAINING: dict[str, Any] = {"epochs": 3, "learning_rate": 1e-5}


def candidate(**changes: Any) -> Candidate:
    tree = {"network": NETWORK, "training": TRAINING} | changes
    return read_candidate(tree)


def refusal(folder: Path, tree: Any) -> str:
    path = folder / "candidate.yaml"
    path.write_text(dump_yaml(tree))
    with pytest.raises(ConfigError, match=r"candidate\.yaml") as error:
        load_candidate(path)
    return str(error.value).replace(f"{path}:", "")


@pytest.mark.parametrize(("width", "multiple", "rounded"), [(10, 4, 12), (12, 4, 12), (0, 4, 4)])
def test_round_up(width: int, multiple: int, rounded: int) -> None:
    assert round_up(width, multiple) == rounded


@pytest.mark.parametrize(
    ("changes", "growth_rate", "stem"),
    [
        ({}, 10, 10),
        # The 3x3 convolutions read bottleneck * growth, the stem only the pointwise ones.
        ({"groups": [2, 3]}, 12, 10),
        ({"groups": 4, "pointwise_groups": 6}, 12, 12),
        ({"groups": [4, 8], "bottleneck": 0}, 16, 12),
        ({"pointwise_groups": [3, 7]}, 21, 12),
        # At their bound the widths go down: 341 * 3 = 1023, 1365 * 3 = 4095.
        (
            {"growth_rate": 1024, "stem": {"width": 4096}, "pointwise_groups": 3},
            1023,
            4095,
        ),
    ],
    ids=str,
)
def test_widths_are_multiples_of_the_groups_that_read_them(
    changes: dict[str, Any], growth_rate: int, stem: int
) -> None:
    network = DenseNet.model_validate(NETWORK | changes)
    assert (network.growth_rate, network.stem.width) == (growth_rate, stem)
    assert DenseNet.model_validate(network.model_dump(mode="json")) == network


def test_groups_serve_all_blocks_as_one_number() -> None:
    network = DenseNet.model_validate(NETWORK | {"groups": 2})
    assert (network.groups, network.pointwise_groups) == ((2, 2), (1, 1))
    assert network.model_dump(mode="json")["groups"] == 2


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pruning": {"sparsity": 0}},
        {"quantization": {"weight_bits": 4, "activation_bits": 8, "first": {"weight_bits": 8}}},
        {"network": NETWORK | {"groups": [2, 5], "stem": {"width": 7, "stride": 4}}},
        {"input": {"channels": 1, "height": 8, "width": 9}, "classes": 4},
    ],
    ids=str,
)
def test_a_dumped_candidate_is_loaded_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "candidate.yaml"
    one = candidate(**changes)
    path.write_text(dump_yaml(one.model_dump(mode="json")))
    assert load_candidate(path) == one
    assert load_candidate(path).digest() == one.digest()


def test_candidates_are_the_same_once_rounded() -> None:
    nine, ten = ({**NETWORK, "growth_rate": width, "groups": 4} for width in (9, 10))
    assert candidate(network=nine).digest() == candidate(network=ten).digest()
    assert candidate(network=nine).digest() != candidate().digest()


def test_candidates_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        candidate().training.__setattr__("epochs", 4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": None}, "1:1: network: found null, expected a mapping"),
        ({"network": 5}, "1:1: network: found 5, expected a mapping"),
        ({"training": []}, "7:1: training: found [], expected a mapping"),
        ({"prunning": None}, "10:1: prunning: unknown key, did you mean 'pruning'?"),
        (
            {"quantization": {"static": 1, "weight_bits": 9, "activation_bits": 33}},
            "11:3: quantization.static: unknown key, expected one of activation_bits, epochs, "
            "first, last, learning_rate_factor, mode, weight_bits\n"
            "12:3: quantization.weight_bits: found 9, expected 2, 3, 4, 5, 6, 7, 8, 16 or 32\n"
            "13:3: quantization.activation_bits: found 33, expected 2, 3, 4, 5, 6, 7, 8, 16 or 32",
        ),
        ({"pruning": {}}, "10:1: pruning.sparsity: missing, and it has no default"),
        (
            {"pruning": {"sparsity": float("nan")}},
            "11:3: pruning.sparsity: found NaN, expected a finite number",
        ),
        (
            {"pruning": {"sparsity": True, "epochs": 1.5}},
            "11:3: pruning.sparsity: found true, expected a number\n"
            "12:3: pruning.epochs: found 1.5, expected a whole number",
        ),
        ({"classes": 1}, "10:1: classes: found 1, expected a number greater than or equal to 2"),
        (
            {"input": {"height": 1}},
            "network.stem.stride and network.layers halve the image 1 times, "
            "expected at most 0 for 1 x 32 pixels",
        ),
    ],
    ids=lambda found: str(found)[:40],
)
def test_what_is_no_candidate_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tree = {"network": NETWORK, "training": TRAINING} | changes
    if not isinstance(tree["network"], dict):
        assert message in refusal(tmp_path, tree)
    else:
        assert refusal(tmp_path, tree).endswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 4}, "layers: found 4, expected a list"),
        ({"layers": []}, "layers: found [], expected at least 1 item"),
        ({"layers": [1] * 9}, "found [1, 1, 1, 1, 1, 1, 1, 1, 1], expected at most 8 items"),
        ({"layers": [2, 0]}, "layers[1]: found 0, expected a number greater than or equal to 1"),
        ({"groups": 0}, "network.groups: found 0, expected a number greater than or equal to 1"),
        ({"groups": True}, "network.groups: found true, expected a whole number"),
        ({"groups": [1]}, "groups has 1 entries and layers 2, expected one for each block"),
        (
            {"groups": [7, 11], "pointwise_groups": 17},
            "growth_rate has to be a multiple of 1309 for groups and pointwise_groups, "
            "expected groups with a least common multiple of at most 1024",
        ),
        ({"family": "resnet"}, "network.family: found 'resnet', expected 'densenet'"),
    ],
    ids=lambda found: str(found)[:40],
)
def test_networks_that_cannot_be_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tree = {"network": NETWORK | changes, "training": TRAINING}
    found = refusal(tmp_path, tree).splitlines()
    assert len(found) == 1
    assert found[0].endswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"warmup": 3},
            "training: warmup is 3 and epochs 3, expected fewer epochs of warm-up",
        ),
        (
            {"warmup": 1, "schedule": "one-cycle"},
            "training: warmup and schedule: one-cycle exclude each other",
        ),
        (
            {"optimizer": "sdg"},
            "training.optimizer: found 'sdg', expected 'sgd', 'adam' or 'adamw'",
        ),
        (
            {"augmentation": {"flip": "off"}},
            "training.augmentation.flip: found 'off', expected true or false",
        ),
    ],
    ids=lambda found: str(found)[:40],
)
def test_training_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tree = {"network": NETWORK, "training": TRAINING | changes}
    assert refusal(tmp_path, tree).endswith(message)
