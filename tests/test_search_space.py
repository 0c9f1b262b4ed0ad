import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial

from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Choices, Distribution, OneOf, Range
from micronet_search.config.files import load_sweep, read_candidate
from micronet_search.config.network import Input
from micronet_search.search.encoding import decode, encode
from micronet_search.search.space import OutsideSpaceError, find_choices, size, suggest

IMAGE = Input(channels=3, height=32, width=32)

SWEEP = """
name: test
dataset: {name: cifar10}
objectives: {accuracy: {at_least: 0.9}, score: {at_most: 0.03}}
search: {trials: 10}
candidate:
  network:
    family: densenet
    stem: {width: {low: 8, high: 32, step: 8}, stride: {choices: [1, 2]}}
    growth_rate: {low: 8, high: 32, step: 4}
    layers: {choices: [[3, 6, 8], [4, 4, 4]]}
    groups: {choices: [1, [2, 3, 3], [2, 2, 2]]}
    bottleneck: {low: 0, high: 4}
  training:
    epochs: 10
    learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}
    label_smoothing: {low: 0.1, high: 0.3, step: 0.1}
    augmentation: {choices: [{crop: 4}, {flip: true, mixup: 1}, {}]}
  pruning:
    one_of:
      none: null
      some: {sparsity: {low: 0.0, high: 0.8}, epochs: {choices: [0, 5]}}
  quantization:
    one_of:
      none: null
      even: {weight_bits: 8, activation_bits: 8}
      mixed:
        weight_bits: {choices: [2, 4]}
        activation_bits: {choices: [4, 8]}
        first: {one_of: {body: {}, wide: {weight_bits: {choices: [8, 16]}}}}
"""


@pytest.fixture(autouse=True)
def _warnings_are_errors() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("space") / "sweep.yaml"
    path.write_text(SWEEP)
    return load_sweep(path).space


def space_of(tmp_path: Path, changes: dict[str, str]) -> Any:
    text = SWEEP
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return load_sweep(path).space


def dump(tree: Any) -> dict[str, Any]:
    return read_candidate(tree, IMAGE, 10).model_dump(mode="json")


def drawn_by(space: Any, params: dict[str, Any]) -> dict[str, Any]:
    return dump(suggest(FixedTrial(params), space))


def some_candidate(space: Any, seed: int = 0, **picks: Any) -> dict[str, Any]:
    """A random draw in which the choices whose paths end in a name of `picks` are made."""
    rng = random.Random(seed)

    def pick(path: str, distribution: Distribution) -> Any:
        name = path.removesuffix(".one_of").rpartition(".")[2]
        value = picks[name] if name in picks else distribution.sample(rng)
        return decode(distribution, encode(distribution, value))

    return dump(distributions.draw(space, pick).tree)


@pytest.mark.parametrize(
    ("distribution", "value", "parameter"),
    [
        (Range(8, 32, 4), 12, 12),
        (Range(1, 100, log=True), 7, 7),
        (Range(0.0, 1.0, whole=False), 0.25, 0.25),
        (Range(0.1, 0.5, 0.1, whole=False), 0.3, 0.3),
        (Choices((1, None, True, "a", 0.5)), None, None),
        (Choices((1, 2.5)), 2.5, 2.5),
        (Choices(([1, 2], [3])), [1, 2], "[1,2]"),
        (Choices((1, [2, 3])), 1, "1"),
        (Choices((None, {"b": 1.0, "a": [True]})), {"a": [True], "b": 1.0}, '{"a":[true],"b":1.0}'),
        (Choices((None, {"a": 1})), None, "null"),
        (Choices(("a", ["a"])), "a", '"a"'),
        (OneOf({"x": None, "y": {}}), "y", "y"),
    ],
)
def test_encode_and_decode(distribution: Distribution, value: Any, parameter: Any) -> None:
    assert encode(distribution, value) == parameter
    assert type(encode(distribution, value)) is type(parameter)
    assert decode(distribution, parameter) == value


@pytest.mark.parametrize("value", [0.1 + 2 * 0.1, 0.3, 0.30000000001])
def test_the_grid_has_no_rounding_noise(value: float) -> None:
    assert decode(Range(0.1, 0.5, 0.1, whole=False), value) == 0.3


def test_optuna_knows_a_choice_by_its_path(space: Any) -> None:
    params = {
        "network.stem.width": 16,
        "network.stem.stride": 2,
        "network.growth_rate": 24,
        "network.layers": "[4,4,4]",
        "network.groups": "[2,3,3]",
        "network.bottleneck": 2,
        "training.learning_rate": 0.003,
        "training.label_smoothing": 0.3,
        "training.augmentation": '{"flip":true,"mixup":1}',
        "pruning.one_of": "some",
        "pruning.some.sparsity": 0.5,
        "pruning.some.epochs": 5,
        "quantization.one_of": "mixed",
        "quantization.mixed.weight_bits": 2,
        "quantization.mixed.activation_bits": 8,
        "quantization.mixed.first.one_of": "wide",
        "quantization.mixed.first.wide.weight_bits": 16,
    }
    trial = FixedTrial(params)
    tree = suggest(trial, space)
    assert trial.params == params
    assert tree["network"]["stem"] == {"width": 16, "kernel": 3, "stride": 2}
    assert tree["network"]["growth_rate"] == 24
    assert tree["network"]["layers"] == [4, 4, 4]
    assert tree["training"]["augmentation"] == {"flip": True, "mixup": 1}
    assert tree["quantization"]["first"]["weight_bits"] == 16
    assert find_choices(space, dump(tree)) == params


@settings(max_examples=50)
@given(st.integers(0, 10_000))
def test_find_choices_draws_the_candidate(space: Any, seed: int) -> None:
    candidate = some_candidate(space, seed)
    assert drawn_by(space, find_choices(space, candidate)) == candidate


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_draws_of_a_study_are_found_again(space: Any, sampler: str) -> None:
    samplers = {
        "random": optuna.samplers.RandomSampler(seed=0),
        "tpe": optuna.samplers.TPESampler(seed=0, multivariate=True, group=True),
    }
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=samplers[sampler])
    for _ in range(25):
        trial = study.ask()
        candidate = dump(suggest(trial, space))
        assert drawn_by(space, find_choices(space, candidate)) == candidate
        assert drawn_by(space, trial.params) == candidate
        study.tell(trial, [candidate["training"]["learning_rate"], len(trial.params)])


def test_an_enqueued_candidate_is_drawn(tmp_path: Path, space: Any) -> None:
    candidate = some_candidate(space, 1)
    params = find_choices(space, candidate)
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "journal")))
    study = optuna.create_study(directions=["maximize", "minimize"], storage=storage)
    study.enqueue_trial(params)
    trial = study.ask()
    assert dump(suggest(trial, space)) == candidate
    assert trial.params == params
    study.enqueue_trial(params, skip_if_exists=True)
    assert len(study.trials) == 1


def test_a_width_rounded_up_to_its_groups_is_found(space: Any) -> None:
    candidate = some_candidate(space, growth_rate=20, groups=[2, 3, 3])
    assert candidate["network"]["growth_rate"] == 24
    params = find_choices(space, candidate)
    assert params["network.groups"] == "[2,3,3]"
    assert drawn_by(space, params) == candidate


def test_a_choice_written_another_way_is_found(space: Any) -> None:
    candidate = some_candidate(space, groups=[2, 2, 2], augmentation={"crop": 4})
    assert candidate["network"]["groups"] == 2
    params = find_choices(space, candidate)
    assert params["network.groups"] == "[2,2,2]"
    assert params["training.augmentation"] == '{"crop":4}'


def test_choices_that_hang_together_are_found(tmp_path: Path) -> None:
    space = space_of(tmp_path, {"{low: 8, high: 32, step: 4}": "{choices: [7, 10, 31]}"})
    candidate = some_candidate(space, growth_rate=10, groups=[2, 3, 3])
    params = find_choices(space, candidate)
    assert params["network.growth_rate"] in (7, 10)  # Both are rounded up to 12.
    assert drawn_by(space, params) == candidate


def test_a_width_rounded_down_at_its_bound_is_found(tmp_path: Path) -> None:
    growth = {"{low: 8, high: 32, step: 4}": "{low: 1000, high: 1024, step: 24}"}
    groups = {"groups: {choices: [1, [2, 3, 3], [2, 2, 2]]}": "groups: 12"}
    candidate = some_candidate(space := space_of(tmp_path, growth | groups), growth_rate=1024)
    assert candidate["network"]["growth_rate"] == 1020
    assert find_choices(space, candidate)["network.growth_rate"] == 1024


def test_null_branches_are_found(space: Any) -> None:
    candidate = some_candidate(space, pruning="none", quantization="none")
    params = find_choices(space, candidate)
    assert candidate["pruning"] is None
    assert (params["pruning.one_of"], params["quantization.one_of"]) == ("none", "none")
    assert not any(path.startswith("pruning.some") for path in params)


def test_the_images_are_the_candidates(tmp_path: Path, space: Any) -> None:
    small = Input(channels=1, height=8, width=8)
    tree = distributions.draw(space, distributions.pick_from({})).tree
    candidate = read_candidate(tree, small, 3)
    params = find_choices(space, candidate.model_dump(mode="json"))
    assert read_candidate(suggest(FixedTrial(params), space), small, 3) == candidate


def changed(candidate: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    return candidate | {name: changed(candidate[name], rest, value) if rest else value}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "network.growth_rate",
            36,
            "network.growth_rate: found 36, expected 8 to 32 in steps of 4",
        ),
        ("network.growth_rate", 4, "network.growth_rate: found 4, expected 8 to 32 in steps of 4"),
        ("network.stem.stride", 4, "network.stem.stride: found 4, expected one of [1, 2]"),
        ("network.stem.kernel", 5, "network.stem.kernel: found 5, expected 3"),
        ("training.epochs", 12, "training.epochs: found 12, expected 10"),
        (
            "training.learning_rate",
            0.1,
            "training.learning_rate: found 0.1, expected 0.0001 to 0.01",
        ),
        (
            "training.label_smoothing",
            0.25,
            "training.label_smoothing: found 0.25, expected 0.1 to 0.3 in steps of 0.1",
        ),
        (
            "training.augmentation.mixup",
            0.5,
            "training.augmentation.mixup: found 0.5, expected 0.0",
        ),
        (
            "quantization.weight_bits",
            3,
            "quantization.weight_bits: found 3, expected one of [2, 4]",
        ),
        (
            "network.layers",
            [4, 4],
            "network.layers: found [4, 4], expected one of [[3, 6, 8], [4, 4, 4]]",
        ),
    ],
)
def test_what_is_outside_is_named(space: Any, path: str, value: Any, message: str) -> None:
    picks: dict[str, Any] = {
        "groups": 1,
        "augmentation": {},
        "quantization": "mixed",
        "activation_bits": 4,
    }
    candidate = changed(some_candidate(space, **picks), path, value)
    Candidate.model_validate(candidate)
    with pytest.raises(OutsideSpaceError) as error:
        find_choices(space, candidate)
    assert str(error.value) == message


def test_a_network_is_found_in_a_space_with_other_constants(tmp_path: Path, space: Any) -> None:
    """What is fixed wins, what is open is the candidate's, or the next lower, or the first."""
    candidate = some_candidate(space, 5, sparsity=0.3, pruning="some", quantization="mixed")
    candidate = changed(candidate, "training.learning_rate", 0.003)
    changes = {
        "epochs: 10": "epochs: 30\n    batch_size: {choices: [64, 256]}",
        "{low: 1.0e-4, high: 1.0e-2, log: true}": "{low: 1.0e-4, high: 1.0e-3, log: true}",
        "none: null\n      some: {sparsity: {low: 0.0, high: 0.8}": (
            "some: {sparsity: {choices: [0.3, 0.5]}"
        ),
    }
    other = space_of(tmp_path, changes)
    expected = changed(candidate, "training.epochs", 30)
    expected = changed(expected, "training.batch_size", 64)  # 128 is not to be had
    expected = changed(expected, "training.learning_rate", 0.001)
    assert drawn_by(other, find_choices(other, candidate, "network")) == expected

    unpruned = changed(candidate, "pruning", None)
    found = drawn_by(other, find_choices(other, unpruned, "network"))
    assert found["pruning"]["sparsity"] == 0.3
    assert found["network"] == candidate["network"]


def test_another_network_is_outside_whatever_else_fits(tmp_path: Path, space: Any) -> None:
    other = space_of(tmp_path, {"{low: 8, high: 32, step: 4}": "12"})
    candidate = some_candidate(space, growth_rate=16, groups=1)
    candidate = changed(candidate, "training.epochs", 3)
    with pytest.raises(OutsideSpaceError) as error:
        find_choices(other, candidate, "network")
    assert str(error.value) == "network.growth_rate: found 16, expected 12"


def test_every_difference_is_counted(space: Any) -> None:
    candidate = some_candidate(space, 0)
    for path in ("epochs", "batch_size", "momentum", "warmup"):
        candidate = changed(candidate, f"training.{path}", 0.25)
    with pytest.raises(OutsideSpaceError) as error:
        find_choices(space, candidate)
    assert str(error.value).startswith("training.epochs: found 0.25, expected 10; ")
    assert str(error.value).endswith("; and 1 more")


def test_a_missing_part_is_named(tmp_path: Path, space: Any) -> None:
    narrow = space_of(tmp_path, {"none: null\n      some": "some"})
    candidate = some_candidate(space, 3, pruning="none")
    with pytest.raises(OutsideSpaceError, match=r"^pruning: found null, expected \{"):
        find_choices(narrow, candidate)


def test_images_too_small_for_every_draw(tmp_path: Path) -> None:
    groups = "groups: {choices: [1, [2, 3, 3], [2, 2, 2]]}"
    layers = "{choices: [[2, 2, 2, 2], [3, 3, 3, 3]]}"
    space = space_of(tmp_path, {groups: "groups: 1", "{choices: [[3, 6, 8], [4, 4, 4]]}": layers})
    candidate = some_candidate(space, stride=1, quantization="none")
    candidate = changed(candidate, "network.layers", [2])
    candidate = changed(candidate, "input", {"channels": 1, "height": 4, "width": 4})
    with pytest.raises(OutsideSpaceError, match=r"network.layers: found \[2\], expected one of"):
        find_choices(space, candidate)


def test_size(space: Any) -> None:
    assert size(space) is None
    assert size(space["network"]) == 4 * 2 * 7 * 2 * 3 * 5
    assert size(space["quantization"]) == 1 + 1 + 2 * 2 * (1 + 2)
    assert size(space["training"]["label_smoothing"]) == 3
    assert size(space["pruning"]) is None
    assert size({"a": 1, "b": None, "c": {}}) == 1


def test_a_candidate_is_found_over_ten_one_ofs(tmp_path: Path) -> None:
    """As many branches as there are multiply to 59,049 ways; each one is found by itself."""
    branches = (
        "{one_of: {a: {low: 0.0, high: 0.1}, b: {low: 0.2, high: 0.3}, c: {choices: [0.5, 1]}}}"
    )
    fields = ("erasing", "mixup", "cutmix", "mix_probability", "rotation")
    colours = ("brightness", "contrast", "saturation")
    augmentation = ", ".join(f"{name}: {branches}" for name in fields)
    jitter = ", ".join(f"{name}: {branches}" for name in colours)
    space = space_of(
        tmp_path,
        {
            "augmentation: {choices: [{crop: 4}, {flip: true, mixup: 1}, {}]}": (
                f"augmentation: {{{augmentation}, jitter: {{{jitter}}}}}"
            )
        },
    )
    for seed in range(5):
        candidate = some_candidate(space, seed)
        assert drawn_by(space, find_choices(space, candidate)) == candidate


def test_widths_that_are_products_are_found(tmp_path: Path) -> None:
    """No single choice brings the draw closer: the multiplier moves all widths at once."""
    start, end = SWEEP.index("    family: densenet"), SWEEP.index("  training:")
    network = """\
    family: efficientnet
    stem: {width: {low: 16, high: 32, step: 8}}
    widths: {choices: [[16, 32], [24, 40], [24, 112]]}
    layers: {choices: [1, [2, 3]]}
    head: {choices: [0, 128, 256]}
    width_multiplier: {choices: [0.75, 1.0, 1.25]}
    depth_multiplier: {choices: [1.0, 1.5]}
"""
    space = space_of(tmp_path, {SWEEP[start:end]: network})
    for seed in range(20):
        candidate = some_candidate(space, seed)
        assert drawn_by(space, find_choices(space, candidate)) == candidate
