import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from candidates import random_candidate
from pydantic import ValidationError

from micronet_search.config.blocks import round_up
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import dump_yaml, load_candidate, read_candidate
from micronet_search.config.loading import ConfigError
from micronet_search.config.network import DenseNet, EfficientNet, ResNet

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


@pytest.mark.parametrize("family", ["densenet", "resnet", "efficientnet"])
def test_plain_convolutions_are_the_same_whatever_stands_between(family: str) -> None:
    shapes = NETWORK if family == "densenet" else RESNET | {"family": family}
    for kind in ("plain", "separable"):
        network = shapes | {"convolution": kind}
        digests = {
            candidate(network=network | {"between": between}).digest()
            for between in ("norm-activation", "norm", "activation", "nothing")
        }
        assert len(digests) == (1 if kind == "plain" else 4)


def test_a_network_stored_without_what_stands_between_has_the_default() -> None:
    network = candidate(network=RESNET).network
    assert isinstance(network, ResNet)
    assert network.between == "norm-activation"


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
            "11:3: quantization.static: unknown key, expected one of activation_bits, blocks, "
            "epochs, first, last, learning_rate_factor, mode, weight_bits\n"
            "12:3: quantization.weight_bits: found 9, expected 1, 2, 3, 4, 5, 6, 7, 8, 16 or 32\n"
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
            "network's strides and blocks halve the image 1 times, "
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
        (
            {"between": "none"},
            "network.between: found 'none', "
            "expected 'norm-activation', 'norm', 'activation' or 'nothing'",
        ),
        ({"groups": 0}, "network.groups: found 0, expected a number greater than or equal to 1"),
        ({"groups": True}, "network.groups: found true, expected a whole number"),
        ({"groups": [1]}, "groups has 1 entries and layers 2, expected one for each block"),
        (
            {"groups": [7, 11], "pointwise_groups": 17},
            "growth_rate has to be a multiple of 1309 for groups and pointwise_groups, "
            "expected groups with a least common multiple of at most 1024",
        ),
        (
            {"family": "resnett"},
            "2:3: network.family: found 'resnett', expected 'densenet', 'resnet' or 'efficientnet'",
        ),
        (
            {"wdths": [8]},
            "network.wdths: unknown key, expected one of between, bottleneck, "
            "compression, convolution, family, groups, growth_rate, layers, pointwise_groups, stem",
        ),
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
            {"optimizer": "sdg"},
            "training.optimizer: found 'sdg', expected 'sgd', 'adam', 'adamw' or 'muon'",
        ),
        (
            {"augmentation": {"flip": "off"}},
            "training.augmentation.flip: found 'off', expected true or false",
        ),
        (
            {"schedule": "cosin"},
            "10:3: training.schedule: found 'cosin', "
            "expected 'cosine', 'one-cycle', 'linear' or 'multi-step'",
        ),
        (
            {"schedule": {"name": "cosine", "restart": 1}},
            "12:5: training.schedule.restart: unknown key, did you mean 'restarts'?",
        ),
        (
            {"schedule": {"restarts": 1}},
            "10:3: training.schedule.name: missing, "
            "expected 'cosine', 'one-cycle', 'linear' or 'multi-step'",
        ),
        (
            {"schedule": {"name": "multi-step", "milestones": [0.5, 0.25]}},
            "training.schedule: milestones are [0.5, 0.25], expected rising shares",
        ),
    ],
    ids=lambda found: str(found)[:40],
)
def test_training_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tree = {"network": NETWORK, "training": TRAINING | changes}
    assert refusal(tmp_path, tree).endswith(message)


RESNET: dict[str, Any] = {"family": "resnet", "stem": {"width": 8}, "widths": [8, 16], "layers": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"widths": 8}, "5:3: network.widths: found 8, expected a list"),
        ({"widths": []}, "network.widths: found [], expected at least 1 item"),
        ({"widths": [8, 2.0]}, "5:15: network.widths[1]: found 2.0, expected a whole number"),
        ({"layers": True}, "6:3: network.layers: found true, expected a whole number"),
        ({"layers": "2"}, "6:3: network.layers: found '2', expected a whole number"),
        ({"layers": None}, "6:3: network.layers: found null, expected a list"),
        (
            {"layers": [1, 2, 3]},
            "network: layers has 3 entries and widths 2, expected one for each block",
        ),
        (
            {"groups": [1023, 1024]},
            "network: some width has to be a multiple of 1047552 for the groups that read it, "
            "expected groups with a least common multiple of at most 4096",
        ),
        (
            {"family": "efficientnet", "kernels": 4},
            "7:3: network.kernels: found 4, expected 3, 5 or 7",
        ),
        (
            {"family": "efficientnet", "strides": [1, 3]},
            "7:16: network.strides[1]: found 3, expected 1 or 2",
        ),
        (
            {"family": "efficientnet", "squeeze": "half"},
            "7:3: network.squeeze: found 'half', expected a number",
        ),
    ],
    ids=lambda found: str(found)[:40],
)
def test_lists_by_block_that_cannot_be_are_refused_once(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tree = {"network": RESNET | changes, "training": TRAINING}
    found = refusal(tmp_path, tree).splitlines()
    assert len(found) == 1
    assert found[0].endswith(message)


QUANTIZATION = {"weight_bits": 4, "activation_bits": 8}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pruning": {"sparsity": 0.5, "exclude": ["last", "frist"]}},
            "12:19: pruning.exclude[1]: found 'frist', expected first, last, depthwise or blockN",
        ),
        (
            {"pruning": {"sparsity": 0.5, "exclude": ["block3"]}},
            "pruning.exclude names block3 and network has 2 blocks, expected one of them",
        ),
        (
            {"quantization": QUANTIZATION | {"blocks": {"blok1": {}}}},
            "14:5: quantization.blocks.blok1: found 'blok1', expected block1, block2 and so on",
        ),
        (
            {"quantization": QUANTIZATION | {"blocks": {"block1": {"[key]": 8}}}},
            "15:7: quantization.blocks.block1.[key]: unknown key, "
            "expected one of activation_bits, weight_bits",
        ),
        (
            {"quantization": QUANTIZATION | {"blocks": {"block2": {"weight_bits": 9}}}},
            "15:7: quantization.blocks.block2.weight_bits: found 9, "
            "expected 1, 2, 3, 4, 5, 6, 7, 8, 16 or 32",
        ),
        (
            {"quantization": QUANTIZATION | {"blocks": {"block3": {}}}},
            "quantization.blocks names block3 and network has 2 blocks, expected one of them",
        ),
        (
            {"factorization": {"kind": "tuckr", "ratio": 0.5}},
            "factorization.kind: found 'tuckr', expected 'svd' or 'tucker'",
        ),
        (
            {"structured_pruning": {"ratio": 1.0}},
            "structured_pruning.ratio: found 1.0, expected a number less than 1",
        ),
    ],
    ids=lambda found: str(found)[:60],
)
def test_compression_that_cannot_be_is_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    tree = {"network": NETWORK, "training": TRAINING} | changes
    found = refusal(tmp_path, tree).splitlines()
    assert len(found) == 1
    assert found[0].endswith(message)


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({}, "teacher: found neither, expected network and training, or study and trial"),
        (
            {"network": RESNET},
            "teacher: found network, expected network and training, or study and trial",
        ),
        (
            {"study": "a", "trial": 1, "training": TRAINING},
            "teacher: found training and study and trial, "
            "expected network and training, or study and trial",
        ),
        (
            {"study": "../a", "trial": 1},
            "teacher.study: found '../a', expected at most 100 letters, "
            "digits, dots, dashes and underscores, a letter or digit first",
        ),
        (
            {"network": RESNET | {"layer": "basik"}, "training": TRAINING},
            "teacher.network.layer: found 'basik', expected 'basic' or 'bottleneck'",
        ),
        (
            {"network": RESNET | {"wdths": 3}, "training": TRAINING},
            "teacher.network.wdths: unknown key, did you mean 'widths'?",
        ),
        (
            {"network": RESNET | {"stem": {"width": 0}}, "training": TRAINING},
            "teacher.network.stem.width: found 0, expected a number greater than or equal to 1",
        ),
        (
            {"network": RESNET | {"family": "vgg"}, "training": TRAINING},
            "teacher.network.family: found 'vgg', expected 'densenet', 'resnet' or 'efficientnet'",
        ),
        (
            {"network": RESNET, "training": TRAINING | {"schedule": "cosin"}},
            "teacher.training.schedule: found 'cosin', "
            "expected 'cosine', 'one-cycle', 'linear' or 'multi-step'",
        ),
        (
            {"network": RESNET | {"widths": [8] * 7}, "training": TRAINING},
            "distillation.teacher.network's strides and blocks halve the image 6 times, "
            "expected at most 5 for 32 x 32 pixels",
        ),
    ],
    ids=lambda found: str(found)[:60],
)
def test_teachers_that_cannot_be_are_refused(
    tmp_path: Path, teacher: dict[str, Any], message: str
) -> None:
    tree = {"network": NETWORK, "training": TRAINING, "distillation": {"teacher": teacher}}
    found = refusal(tmp_path, tree).splitlines()
    assert len(found) == 1
    assert found[0].endswith(message)


CACHED = {"teacher": {"study": "a", "trial": 1}, "cached": True}


@pytest.mark.parametrize(
    ("augmentation", "found"),
    [
        ({"crop": 3}, "crop 3"),
        ({"crop": 4, "flip": True, "rotation": 5.0}, "crop 4, rotation 5.0"),
        ({"jitter": {"hue": 0.1}}, "jitter {hue: 0.1}"),
        ({"policy": "rand", "erasing": 0.5}, "policy 'rand', erasing 0.5"),
        ({"crop": 2, "mixup": 0.2, "cutmix": 1.0, "mix_probability": 0.5}, "mixup 0.2, cutmix 1.0"),
    ],
)
def test_cached_soft_targets_have_no_other_views(
    tmp_path: Path, augmentation: dict[str, Any], found: str
) -> None:
    training = TRAINING | {"augmentation": augmentation}
    tree = {"network": NETWORK, "training": training, "distillation": CACHED}
    (line,) = refusal(tmp_path, tree).splitlines()
    assert line.endswith(
        f"distillation.cached is true and training.augmentation has {found}, "
        "expected a crop of at most 2, flip and nothing else"
    )


@pytest.mark.parametrize(
    "augmentation",
    [
        {},
        {"crop": 1},
        {"crop": 2, "flip": True, "unmixed_epochs": 3, "mix_probability": 0.5},
        {"crop": 2, "jitter": {"hue": 0.0}, "policy": None},
    ],
)
def test_cached_soft_targets_have_these_views(augmentation: dict[str, Any]) -> None:
    training = TRAINING | {"augmentation": augmentation}
    tree = {"network": NETWORK, "training": training, "distillation": CACHED}
    found = Candidate.model_validate(tree).distillation
    assert found is not None
    assert found.cached


@pytest.mark.parametrize("family", ["densenet", "resnet", "efficientnet"])
def test_a_random_candidate_of_each_family_is_loaded_again(tmp_path: Path, family: str) -> None:
    rng, path = random.Random(0), tmp_path / "candidate.yaml"
    drawn = (random_candidate(rng) for _ in itertools.count())
    of_family = (one for one in drawn if one.network.family == family)
    for one in itertools.islice(of_family, 25):
        path.write_text(dump_yaml(one.model_dump(mode="json")))
        assert load_candidate(path) == one
        assert load_candidate(path).digest() == one.digest()


@pytest.mark.parametrize(
    ("changes", "widths", "stem"),
    [
        ({}, (10, 15), 9),
        # Each width is read by the next block; the last one by its own second convolution.
        ({"groups": 4}, (12, 16), 12),
        ({"groups": [2, 3]}, (12, 15), 10),
        # In a bottleneck the 3x3 convolution reads its own width, the 1x1 the stem.
        ({"groups": [2, 3], "layer": "bottleneck"}, (10, 15), 9),
        ({"groups": [3, 4], "layer": "bottleneck"}, (12, 16), 9),
        # The 1x1 convolutions read what the block before puts out, and what their own does.
        ({"family": "efficientnet", "groups": [2, 3]}, (12, 15), 10),
    ],
    ids=str,
)
def test_widths_of_blocks_are_multiples_of_the_groups_that_read_them(
    changes: dict[str, Any], widths: tuple[int, int], stem: int
) -> None:
    tree = RESNET | {"stem": {"width": 9}, "widths": [10, 15]} | changes
    network = candidate(network=tree).network
    assert isinstance(network, ResNet | EfficientNet)
    assert (network.widths, network.stem.width) == (widths, stem)


B0: dict[str, Any] = {
    "family": "efficientnet",
    "stem": {"width": 32, "stride": 2},
    "widths": [16, 24, 40, 80, 112, 192, 320],
    "layers": [1, 2, 2, 3, 3, 4, 1],
    "strides": [1, 2, 2, 2, 1, 2, 1],
    "kernels": [3, 3, 5, 3, 5, 5, 3],
    "expansions": [1, 6, 6, 6, 6, 6, 6],
    "squeeze": 0.25,
    "activation": "silu",
    "head": 1280,
}


@pytest.mark.parametrize(
    ("width", "depth", "stem", "widths", "layers", "head"),
    [
        (1.0, 1.0, 32, (16, 24, 40, 80, 112, 192, 320), (1, 2, 2, 3, 3, 4, 1), 1280),
        (1.0, 1.1, 32, (16, 24, 40, 80, 112, 192, 320), (2, 3, 3, 4, 4, 5, 2), 1280),
        (1.1, 1.2, 32, (16, 24, 48, 88, 120, 208, 352), (2, 3, 3, 4, 4, 5, 2), 1408),
        (1.2, 1.4, 40, (24, 32, 48, 96, 136, 232, 384), (2, 3, 3, 5, 5, 6, 2), 1536),
    ],
    ids=["B0", "B1", "B2", "B3"],
)
def test_efficientnets_multipliers_give_the_published_widths_and_layers(
    width: float,
    depth: float,
    stem: int,
    widths: tuple[int, ...],
    layers: tuple[int, ...],
    head: int,
) -> None:
    network = EfficientNet.model_validate(
        B0 | {"width_multiplier": width, "depth_multiplier": depth}
    )
    found = (network.stem.width, network.widths, network.layers, network.head)
    assert found == (stem, widths, layers, head)
    assert (network.width_multiplier, network.depth_multiplier) == (1.0, 1.0)
    assert EfficientNet.model_validate(network.model_dump(mode="json")) == network


def test_multipliers_stay_within_the_bounds_that_a_file_has() -> None:
    tree = B0 | {"widths": [4096] * 7, "layers": 200, "depth_multiplier": 16.0}
    network = EfficientNet.model_validate(tree | {"width_multiplier": 16.0})
    assert (network.widths, network.layers) == ((4096,) * 7, (200,) * 7)
    assert EfficientNet.model_validate(network.model_dump(mode="json")) == network


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"network": RESNET}, {"network": RESNET | {"layers": [2, 2], "groups": [1, 1]}}),
        ({"network": RESNET | {"groups": 2}}, {"network": RESNET | {"groups": [2, 2]}}),
        (
            {"network": B0 | {"width_multiplier": 1.1, "layers": 1}},
            {
                "network": B0
                | {"widths": [16, 24, 48, 88, 120, 208, 352], "head": 1408, "layers": 1}
            },
        ),
        (
            {"training": TRAINING | {"schedule": "one-cycle", "warmup": 1}},
            {"training": TRAINING | {"schedule": {"name": "one-cycle"}}},
        ),
        (
            {"pruning": {"sparsity": 0.5, "exclude": ["last", "first", "last"]}},
            {"pruning": {"sparsity": 0.5, "exclude": ["first", "last"]}},
        ),
        (
            {"pruning": {"sparsity": 0.5, "schedule": "one-shot", "rounds": 9}},
            {"pruning": {"sparsity": 0.5, "schedule": "one-shot"}},
        ),
        (
            {"quantization": QUANTIZATION | {"blocks": {"block2": {}, "block1": {}}}},
            {"quantization": QUANTIZATION | {"blocks": {"block1": {}, "block2": {}}}},
        ),
    ],
    ids=lambda found: str(found)[:60],
)
def test_what_is_written_in_two_ways_is_one_candidate(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    assert candidate(**one) == candidate(**other)
    assert candidate(**one).digest() == candidate(**other).digest()


def test_rounds_count_where_pruning_is_iterative() -> None:
    pruning = {"sparsity": 0.5, "schedule": "iterative"}
    three, default = candidate(pruning=pruning | {"rounds": 3}), candidate(pruning=pruning)
    assert three.digest() != default.digest()


@pytest.mark.parametrize("blocks", [[200, 1], [100, 101]])
def test_layers_in_all_blocks_are_bounded(blocks: list[int]) -> None:
    network = {"family": "densenet", "stem": {"width": 4}, "growth_rate": 4, "layers": blocks}
    with pytest.raises(ValidationError, match=r"network has 201 layers in its blocks, expected"):
        Candidate.model_validate({"network": network, "training": TRAINING})


def test_a_schedule_over_the_trial_leaves_stages_no_rates_of_their_own() -> None:
    """So that candidates that differ in these alone are duplicates."""
    parts = {"pruning": {"sparsity": 0.5}, "quantization": {"weight_bits": 4, "activation_bits": 4}}
    slow = {name: part | {"learning_rate_factor": 0.01} for name, part in parts.items()}
    for span, same in (("trial", True), ("stage", False)):
        training = {"epochs": 2, "learning_rate": 0.1, "span": span}
        found, other = (
            Candidate.model_validate({"network": RESNET, "training": training} | asked)
            for asked in (parts, slow)
        )
        assert (found.digest() == other.digest()) == same
