import random
import re
from pathlib import Path
from typing import Any

import pytest

from micronet_search.config import distributions
from micronet_search.config.distributions import Range
from micronet_search.config.files import (
    dump_yaml,
    load_candidate,
    load_stored_sweep,
    load_sweep,
    read_candidate,
)
from micronet_search.config.loading import ConfigError
from micronet_search.config.network import EfficientNet, Input
from micronet_search.config.options import invalid_options, refusals, valid_draw
from micronet_search.config.search import EarlyStopping, Nsga2, StartFrom, StopWhen, Tpe
from micronet_search.config.sweep import Sweep

# The example of the design, long lines wrapped.
SWEEP = """\
name: cifar10-densenet
dataset: {name: cifar10, root: data, validation: 5000}
objectives:
  accuracy: {at_least: 0.90}            # constraint; accuracy is maximised above it too
  score: {rule: imt, at_most: 0.03}     # minimised; predicted above it: screened
candidate:
  network:
    family: densenet
    stem: {width: 24, stride: {choices: [1, 2]}}
    growth_rate: {low: 8, high: 32, step: 4}
    layers: {choices: [[3, 6, 8], [4, 4, 4], [6, 6, 6]]}
    groups: {choices: [[1, 1, 1], [2, 3, 3], [2, 4, 4]]}
    bottleneck: 2
    compression: 0.5
  training:
    {epochs: 60, batch_size: 512, optimizer: adam, label_smoothing: 0.1,
     learning_rate: {low: 1e-3, high: 1e-2, log: true}, schedule: cosine, weight_decay: 5e-4,
     augmentation: {crop: 4, flip: true, mixup: {low: 0.0, high: 1.0}, cutmix: 0.0}}
  pruning: {kind: unstructured, sparsity: {low: 0.0, high: 0.8}, epochs: 20}
  quantization: {mode: static, weight_bits: {choices: [2, 3, 4, 8, 16]},
                 activation_bits: {choices: [4, 8, 16]}, epochs: 10}
search: {trials: 200, hours: 8, sampler: tpe, seed: 0,
         early_stopping: {rule: asha, first_rung: 3, reduction: 3}}
execution: {engine: auto, device: auto, trials_per_device: 1}
tracking: {}                            # optuna: URL, mlflow: URI, artifacts: URI
"""

PRUNING = "{kind: unstructured, sparsity: {low: 0.0, high: 0.8}, epochs: 20}"
NESTED = """\
{one_of: {none: null, some: {sparsity: {low: 0, high: 0.8}},
    gentle: {one_of: {a: {sparsity: 0.5}, b: {sparsity: 0.25, epochs: {low: 0, high: 9}}}}}}"""


def load(folder: Path, text: str) -> Sweep:
    path = folder / "a.yaml"
    path.write_bytes(text.encode())
    return load_sweep(path)


def change(*changes: tuple[str, str]) -> str:
    text = SWEEP
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def refusal(folder: Path, *changes: tuple[str, str]) -> str:
    with pytest.raises(ConfigError) as error:
        load(folder, change(*changes))
    return str(error.value).replace(f"{folder}/a.yaml:", "")


def with_candidate(tree: str) -> str:
    head, rest = SWEEP.split("candidate:\n")
    return f"{head}candidate: {tree}\nsearch: {rest.split('search: ')[1]}"


def test_the_example_of_the_design(tmp_path: Path) -> None:
    sweep = load(tmp_path, SWEEP)
    assert sweep.dataset.validation == 5000
    assert sweep.search.sampler == Tpe(name="tpe")
    assert sweep.space["network"]["growth_rate"] == Range(8, 32, 4)
    assert list(distributions.leaves(sweep.space)) == [
        "network.stem.stride",
        "network.growth_rate",
        "network.layers",
        "network.groups",
        "training.learning_rate",
        "training.augmentation.mixup",
        "pruning.sparsity",
        "quantization.weight_bits",
        "quantization.activation_bits",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        (),
        ((PRUNING, NESTED),),
        ((PRUNING, "null"), ("name: cifar10, root: data, validation: 5000", "name: digits")),
        (("mixup: {low: 0.0, high: 1.0}", "mixup: {low: 0, high: 1, step: 0.3}"),),
        (("sampler: tpe", "sampler: {name: nsga2, population: 8}, start_with: [b.yaml]"),),
        (("{rule: asha, first_rung: 3, reduction: 3}", "off"), ("hours: 8", "hours: null")),
        (("validation: 5000", "validation: 0.2"), (", root: data", "")),
    ],
)
def test_a_dumped_sweep_is_loaded_again(tmp_path: Path, changes: Any) -> None:
    sweep = load(tmp_path, change(*changes))
    (tmp_path / "elsewhere").mkdir()
    again = load(tmp_path / "elsewhere", dump_yaml(sweep.dump()))
    assert again == sweep
    assert dump_yaml(again.dump()) == dump_yaml(sweep.dump())


@pytest.mark.parametrize("pruning", [PRUNING, NESTED], ids=["plain", "nested"])
def test_a_stored_sweep_is_read_as_it_was_stored(tmp_path: Path, pruning: str) -> None:
    sweep = load(tmp_path, change((PRUNING, pruning)))
    (tmp_path / "stored.yaml").write_text(dump_yaml(sweep.dump()))
    assert load_stored_sweep(tmp_path / "stored.yaml") == sweep


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials: 200", "trials: 0", "22:10: search.trials: found 0, expected a number greater"),
        ("seed: 0", "sead: 0", "22:47: search.sead: unknown key, did you mean 'seed'?"),
        ("low: 8", "low: 80", "10:5: candidate.network.growth_rate: found low 80 above high 32"),
        ("name: cifar10-densenet", "nam", "not readable as YAML"),
        ("candidate:\n", "candidate: 5\nother:\n", "6:1: candidate: found 5, expected a mapping"),
    ],
    ids=["value", "key", "distribution", "text", "candidate"],
)
def test_a_damaged_stored_sweep_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "sweep.yaml").write_text(change((old, new)))
    with pytest.raises(ConfigError) as error:
        load_stored_sweep(tmp_path / "sweep.yaml")
    assert message in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/sweep.yaml:")


def test_a_stored_sweep_is_trusted(tmp_path: Path) -> None:
    """What its options make is the business of the study that runs them."""
    (tmp_path / "sweep.yaml").write_text(
        change(("weight_bits: {choices: [2", "weight_bits: {choices: [9"))
    )
    assert load_stored_sweep(tmp_path / "sweep.yaml").name == "cifar10-densenet"


def test_defaults_are_written_out_in_every_branch(tmp_path: Path) -> None:
    branches = load(tmp_path, change((PRUNING, NESTED))).candidate["pruning"]["one_of"]
    defaults = {
        "kind": "unstructured",
        "exclude": [],
        "schedule": "cubic",
        "rounds": 4,
        "epochs": 0,
        "learning_rate_factor": 0.3,
    }
    assert branches == {
        "none": None,
        "some": {**defaults, "sparsity": {"low": 0.0, "high": 0.8}},
        "gentle": {
            "one_of": {
                "a": {**defaults, "sparsity": 0.5},
                "b": {**defaults, "sparsity": 0.25, "epochs": {"low": 0, "high": 9}},
            }
        },
    }


def test_defaults_are_written_out_in_branches_at_the_root(tmp_path: Path) -> None:
    network = "{family: densenet, stem: {width: 8}, growth_rate: 4, layers: [1]}"
    training = "{epochs: 1, learning_rate: 0.1}"
    branch = f"{{network: {network}, training: {training}}}"
    sweep = load(tmp_path, with_candidate(f"{{one_of: {{a: {branch}, b: {branch}}}}}"))
    one, other = sweep.candidate["one_of"].values()
    assert one == other
    assert list(one) == [
        "network",
        "training",
        "distillation",
        "start",
        "structured_pruning",
        "factorization",
        "pruning",
        "quantization",
    ]
    assert list(distributions.leaves(sweep.space)) == ["one_of"]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("{low: 0, high: 1}", Range(0.0, 1.0, whole=False)),
        ("{low: 0, high: 1, step: 0.5}", Range(0.0, 1.0, 0.5, whole=False)),
        ("{low: 0, high: 6, step: 2}", Range(0.0, 6.0, 2.0, whole=False)),
        ("{low: 1, high: 4, log: true}", Range(1.0, 4.0, log=True, whole=False)),
    ],
)
def test_a_range_of_a_fractional_field_is_fractional(
    tmp_path: Path, written: str, expected: Range
) -> None:
    sweep = load(tmp_path, change(("mixup: {low: 0.0, high: 1.0}", f"mixup: {written}")))
    assert sweep.space["training"]["augmentation"]["mixup"] == expected
    assert all(isinstance(end, float) for end in (expected.low, expected.high))


def test_a_range_in_a_branch_is_fractional_where_its_field_is(tmp_path: Path) -> None:
    branches = load(tmp_path, change((PRUNING, NESTED))).space["pruning"].branches
    assert not branches["some"]["sparsity"].whole
    assert branches["gentle"].branches["b"]["epochs"].whole


def test_a_fraction_for_all_blocks_has_a_fractional_range(tmp_path: Path) -> None:
    squeeze = "squeeze: {low: 0, high: 1}, kernels: 3"
    network = f"{{family: efficientnet, stem: {{width: 8}}, widths: [8, 8], layers: 1, {squeeze}}}"
    training = "{epochs: {low: 1, high: 2}, learning_rate: {low: 1, high: 2}}"
    space = load(tmp_path, with_candidate(f"{{network: {network}, training: {training}}}")).space
    whole = {path: found.whole for path, (found, _) in distributions.leaves(space).items()}
    assert whole == {
        "network.squeeze": False,
        "training.epochs": True,
        "training.learning_rate": False,
    }


def test_candidates_to_start_with_stand_beside_the_sweep(tmp_path: Path) -> None:
    sweep = load(tmp_path, change(("hours: 8", "hours: 8, start_with: [b.yaml, /c/d.yaml]")))
    assert sweep.search.start_with == (str(tmp_path / "b.yaml"), "/c/d.yaml")


@pytest.mark.parametrize(
    ("written", "trials"),
    [
        ("wide", None),
        ("{study: wide}", None),
        ("{study: wide, trials: [7, 3]}", (7, 3)),
    ],
)
def test_a_study_to_start_from(tmp_path: Path, written: str, trials: Any) -> None:
    sweep = load(tmp_path, change(("hours: 8", f"hours: 8, start_from: {written}")))
    assert sweep.search.start_from == StartFrom(study="wide", trials=trials)
    assert load(tmp_path, dump_yaml(sweep.dump())) == sweep


def test_when_a_study_stops(tmp_path: Path) -> None:
    sweep = load(tmp_path, change(("hours: 8", "hours: 8, stop_when: {stagnant_trials: 30}")))
    assert sweep.search.stop_when == StopWhen(stagnant_trials=30)
    message = refusal(tmp_path, ("hours: 8", "hours: 8, stop_when: {stagnant_trials: 0}"))
    assert "search.stop_when.stagnant_trials: found 0, expected a number" in message


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("../wide", "search.start_from: found '../wide', expected at most 100 letters"),
        ("{trials: [1]}", "start_from.study: missing, and it has no default"),
        ("{study: wide, trials: []}", "start_from.trials: found [], expected at least 1 item"),
        ("{study: wide, trials: [-1]}", "start_from.trials[0]: found -1, expected a number"),
    ],
)
def test_what_is_no_study_to_start_from(tmp_path: Path, written: str, message: str) -> None:
    assert message in refusal(tmp_path, ("hours: 8", f"hours: 8, start_from: {written}"))


def test_what_is_wrong_is_told_together(tmp_path: Path) -> None:
    found = refusal(
        tmp_path,
        ("at_least: 0.90", "at_least: 90"),
        ("growth_rate: {low: 8, high: 32", "growth_rate: {low: 32, high: 8"),
        ("bottleneck: 2", "botleneck: 2\n    compression: 0.5"),
        ("choices: [2, 3, 4, 8, 16]", "choices: [0, 4, 9]"),
        ("epochs: 10}", "epochs: {one_of: {a: 1, b: {choices: [-1]}}}}"),
        ("trials: 200", "trials: 0"),
    )
    assert found.splitlines() == [
        "4:14: objectives.accuracy.at_least: found 90, expected a number less than or equal to 1",
        "10:5: candidate.network.growth_rate: found low 32 above high 8, expected low <= high",
        "13:5: candidate.network.botleneck: unknown key, did you mean 'bottleneck'?",
        "15:5: candidate.network.compression: duplicate key, first given on line 14",
        "21:56: candidate.quantization.weight_bits.choices[0]: found 0, "
        "expected 1, 2, 3, 4, 5, 6, 7, 8, 16 or 32",
        "21:62: candidate.quantization.weight_bits.choices[2]: found 9, "
        "expected 1, 2, 3, 4, 5, 6, 7, 8, 16 or 32",
        "22:96: candidate.quantization.epochs.one_of.b.choices[0]: found -1, "
        "expected a number greater than or equal to 0",
        "23:10: search.trials: found 0, expected a number greater than or equal to 1",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{low: 8, high: 32, step: 4}",
            "{chioces: [8, 16]}",
            "10:5: candidate.network.growth_rate: found {chioces: [8, 16]}, "
            "expected a whole number; did you mean 'choices' for 'chioces'?",
        ),
        (
            "{low: 8, high: 32, step: 4}",
            "{low: 1, high: 1000000000000}",
            "10:5: candidate.network.growth_rate: found 1000000000000, "
            "expected a number less than or equal to 1024",
        ),
        (
            "weight_bits: {choices: [2, 3, 4, 8, 16]}",
            "weight_bits: {low: 8, high: 16}",
            "20:32: candidate.quantization.weight_bits: found 9, "
            "expected 1, 2, 3, 4, 5, 6, 7, 8, 16 or 32",
        ),
        (
            "weight_bits: {choices: [2, 3, 4, 8, 16]}",
            "weight_bits: {choices: [8, 8.0, true]}",
            "20:59: candidate.quantization.weight_bits.choices[1]: found 8.0, "
            "expected a whole number\n"
            "20:64: candidate.quantization.weight_bits.choices[2]: found true, "
            "expected a whole number",
        ),
        (
            "weight_bits: {choices: [2, 3, 4, 8, 16]}",
            "weight_bits: {low: 2.0, high: 4.0}",
            "20:32: candidate.quantization.weight_bits: found 2.0, expected a whole number",
        ),
        (
            "  pruning:",
            "  input: {height: 8}\n  pruning:",
            "19:3: candidate.input: not for a sweep to give, the dataset does",
        ),
        (
            "name: cifar10-densenet",
            "name: ../x",
            "1:1: name: found '../x', expected at most 100 letters, digits, dots, dashes and "
            "underscores, a letter or digit first",
        ),
        (
            "device: auto",
            "device: gpu",
            "24:27: execution.device: found 'gpu', expected auto, cpu, cuda or cuda:N",
        ),
        (
            "sampler: tpe",
            "sampler: tpo",
            "22:33: search.sampler: found 'tpo', expected 'frontier', 'tpe', 'nsga2' or 'random'",
        ),
        (
            "sampler: tpe",
            "sampler: {name: nsga2, populaton: 3}",
            "22:56: search.sampler.populaton: unknown key, did you mean 'population'?",
        ),
        ("sampler: tpe", "sampler: null", "22:33: search.sampler: found null, expected a mapping"),
        (
            "hours: 8",
            "hours: 1e400",
            "22:23: search.hours: found Infinity, expected a finite number",
        ),
        ("seed: 0", "seed: off", "22:47: search.seed: found 'off', expected a whole number"),
        (
            "validation: 5000",
            "validation: 2.5",
            "2:38: dataset.validation: found 2.5, expected a whole number or a fraction below 1",
        ),
        (
            "name: cifar10, root: data",
            "name: digits, root: data",
            "2:1: dataset: found root beside name: digits, expected none, digits are built in",
        ),
        (
            "name: cifar10, root: data",
            "name: folder",
            "2:1: dataset: root is missing, expected the folder of the folder dataset",
        ),
        (
            "{rule: imt, at_most: 0.03}",
            "0.03",
            "5:3: objectives.score: found 0.03, expected a mapping",
        ),
    ],
    ids=lambda found: found[:30],
)
def test_messages(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert refusal(tmp_path, (old, new)) == message


LAYERS = "layers: {choices: [[3, 6, 8], [4, 4, 4], [6, 6, 6]]}"
GROUPS = "groups: {choices: [[1, 1, 1], [2, 3, 3], [2, 4, 4]]}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [(LAYERS, "layers: [3, 4]")],
            "7:3: candidate.network: groups has 3 entries and layers 2, "
            "expected one for each block",
        ),
        (
            [(LAYERS, "layers: {choices: [[3, 6, 8], [4, 4]]}")],
            "11:35: candidate.network.layers.choices[1]: groups has 3 entries and layers 2, "
            "expected one for each block",
        ),
        (
            [(GROUPS, "groups: {choices: [1, [2, 2, 2], [2, 2]]}")],
            "12:38: candidate.network.groups.choices[2]: groups has 2 entries and layers 3, "
            "expected one for each block",
        ),
        (
            [("epochs: 60", "epochs: {choices: [20, 10]}, warmup: {choices: [5, 25]}")],
            "16:57: candidate.training.warmup.choices[1]: warmup is 25 and epochs 20, expected "
            "fewer epochs of warm-up",
        ),
        (
            [("epochs: 60", "epochs: {low: 10, high: 20}, warmup: {low: 0, high: 100}")],
            "16:35: candidate.training.warmup: warmup is 100 and epochs 10, expected "
            "fewer epochs of warm-up",
        ),
    ],
    ids=["fixed", "layers", "groups", "choices", "ranges"],
)
def test_fields_that_do_not_go_together_are_told_at_the_option(
    tmp_path: Path, changes: list[tuple[str, str]], message: str
) -> None:
    assert refusal(tmp_path, *changes) == message


@pytest.mark.parametrize(
    "changes",
    [
        [("epochs: 60", "epochs: {choices: [20, 10]}, warmup: {choices: [5, 15]}")],
        [("epochs: 60", "epochs: {choices: [5, 20]}, warmup: {choices: [10, 3]}")],
        [
            (LAYERS, "layers: {choices: [[3, 6], [4, 4, 4], [5, 5, 5, 5]]}"),
            (GROUPS, "groups: {choices: [[2, 2, 2], 1, [1, 2], [1, 2, 2, 4]]}"),
        ],
    ],
    ids=["two of four", "not the first ones", "lists"],
)
def test_options_that_go_together_in_some_draws_are_left_to_screening(
    tmp_path: Path, changes: list[tuple[str, str]]
) -> None:
    sweep = load(tmp_path, change(*changes))
    assert load(tmp_path, dump_yaml(sweep.dump())) == sweep
    rng, found = random.Random(0), set()
    for _ in range(50):
        tree = distributions.draw(sweep.space, distributions.pick_random(rng)).tree
        found.add(bool(refusals(tree, Input(), 10)))
    assert found == {True, False}


def with_cached(cached: str) -> list[tuple[str, str]]:
    """A sweep of students, whose augmentation is one with cached soft targets or another."""
    branches = "{one_of: {light: {crop: 2, flip: true}, strong: {crop: 4, flip: true}}}"
    augmentation = "{crop: 4, flip: true, mixup: {low: 0.0, high: 1.0}, cutmix: 0.0}"
    taught = f"distillation: {{teacher: {{study: a, trial: 0}}, cached: {cached}}}"
    return [(augmentation, branches), ("  pruning:", f"  {taught}\n  pruning:")]


def test_cached_soft_targets_are_told_which_option_they_do_not_go_with(tmp_path: Path) -> None:
    assert refusal(tmp_path, *with_cached("true")).endswith(
        "candidate.training.augmentation.one_of.strong: distillation.cached is true and "
        "training.augmentation has crop 4, expected a crop of at most 2, flip and nothing else"
    )
    space = load(tmp_path, change(*with_cached("{choices: [true, false]}"))).space
    for branch in ("light", "strong"):
        for cached in (True, False):
            chosen = {"training.augmentation.one_of": branch, "distillation.cached": cached}
            tree = distributions.draw(space, distributions.pick_from(chosen)).tree
            assert bool(refusals(tree, Input(), 10)) == (cached and branch == "strong")


def test_a_candidate_is_found_for_an_option_that_goes_with_few_others(tmp_path: Path) -> None:
    epochs = ", ".join(map(str, range(1, 31)))
    text = change(("epochs: 60", f"epochs: {{choices: [{epochs}]}}, warmup: {{choices: [0, 29]}}"))
    drawn = valid_draw(load(tmp_path, text).space, {"training.warmup": 29})
    assert drawn is not None
    assert drawn.choices["training.epochs"] == 30


def test_images_have_to_survive_the_strides(tmp_path: Path) -> None:
    digits = ("name: cifar10, root: data, validation: 5000", "name: digits")
    stride = ("stride: {choices: [1, 2]}", "stride: {choices: [1, 2, 4]}")
    load(tmp_path, change(stride))
    assert refusal(tmp_path, digits, stride) == (
        "9:48: candidate.network.stem.stride.choices[2]: network's strides and blocks halve the "
        "image 4 times, expected at most 3 for 8 x 8 pixels"
    )


def test_images_that_are_not_known_yet_are_checked_later(tmp_path: Path) -> None:
    text = change(
        ("name: cifar10", "name: folder"),
        ("stride: {choices: [1, 2]}", "stride: {choices: [1, 4]}"),
    )
    space = load(tmp_path, text).space
    assert invalid_options(space, Input(height=64, width=64), 5) == []
    key, message = invalid_options(space, Input(height=8, width=9), 5)[0]
    assert key == ("network", "stem", "stride", "choices", 1)
    assert message == (
        "network's strides and blocks halve the image 4 times, expected at most 3 for 8 x 9 pixels"
    )


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("null", "6:1: candidate: found null, expected a mapping"),
        ("5", "6:1: candidate: found 5, expected a mapping"),
        ("[]", "6:1: candidate: found [], expected a mapping"),
        (
            "{}",
            "6:1: candidate.network: missing, and it has no default\n"
            "6:1: candidate.training: missing, and it has no default",
        ),
        (
            "{low: 1, high: 2}",
            "6:1: candidate: found a distribution, expected a mapping, or one_of with mappings",
        ),
        (
            "{one_of: {a: 1, b: {input: {}}}}",
            "6:22: candidate.one_of.a: found 1, expected a mapping\n"
            "6:28: candidate.one_of.b.network: missing, and it has no default\n"
            "6:28: candidate.one_of.b.training: missing, and it has no default\n"
            "6:32: candidate.one_of.b.input: not for a sweep to give, the dataset does",
        ),
        (
            "{network: 5, training: {choices: [[], null]}}",
            "6:13: candidate.network: found 5, expected a mapping\n"
            "6:46: candidate.training.choices[0]: found [], expected a mapping\n"
            "6:50: candidate.training.choices[1]: found null, expected a mapping",
        ),
        (
            "{network: {'a.b': {low: 1, high: 2}}, training: {epochs: 1, learning_rate: 1}}",
            "6:13: candidate.network.family: missing, "
            "expected 'densenet', 'resnet' or 'efficientnet'",
        ),
    ],
)
def test_candidates_that_cannot_be(tmp_path: Path, tree: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, with_candidate(tree))
    assert str(error.value).replace(f"{tmp_path}/a.yaml:", "") == message


def test_too_many_options_are_refused(tmp_path: Path) -> None:
    ranges = ", ".join(f"b{i}: {{mixup: {{low: 0.0, high: 1.0, step: 0.05}}}}" for i in range(250))
    found = refusal(
        tmp_path,
        (
            "{crop: 4, flip: true, mixup: {low: 0.0, high: 1.0}, cutmix: 0.0}",
            f"{{one_of: {{{ranges}}}}}",
        ),
    )
    assert re.fullmatch(r"6:1: candidate: found \d+ options, expected at most 5000", found)


BLOCKS = "quantization: {blocks: {block3: {weight_bits: 8}}, mode: static"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            [
                (LAYERS, "layers: {choices: [[3, 6, 8], [4, 4]]}"),
                (GROUPS, "groups: 1"),
                ("quantization: {mode: static", BLOCKS),
            ],
            "11:35: candidate.network.layers.choices[1]: quantization.blocks names block3 and "
            "network has 2 blocks, expected one of them",
        ),
        (
            [
                (LAYERS, "layers: {choices: [[3, 6], [4, 4]]}"),
                (GROUPS, "groups: 1"),
                ("epochs: 20}", "epochs: 20, exclude: {choices: [[], [block1, block3]]}}"),
            ],
            "19:102: candidate.pruning.exclude.choices[1]: pruning.exclude names block3 and "
            "network has 2 blocks, expected one of them",
        ),
    ],
    ids=["fixed", "choice"],
)
def test_blocks_have_to_be_there(
    tmp_path: Path, changes: list[tuple[str, str]], message: str
) -> None:
    assert refusal(tmp_path, *changes) == message


def test_defaults_do_not_come_from_another_option(tmp_path: Path) -> None:
    """What is written out for the first option is right for the others too."""
    changes = [
        ("epochs: 20}", "epochs: 20, schedule: {choices: [iterative, cubic]}}"),
        (
            change()[change().index("    family") : change().index("  training:")],
            "    {family: efficientnet, stem: {width: 8}, widths: [8, 12], layers: 2,\n"
            "     depth_multiplier: {choices: [1.5, 1.0]}, width_multiplier: 2.0}\n",
        ),
    ]
    sweep = load(tmp_path, change(*changes))
    assert load(tmp_path, dump_yaml(sweep.dump())) == sweep
    for multiplier, layers in ((1.5, 3), (1.0, 2)):
        pick = distributions.pick_from({"network.depth_multiplier": multiplier})
        network = read_candidate(distributions.draw(sweep.space, pick).tree).network
        assert isinstance(network, EfficientNet)
        assert (network.layers, network.widths) == ((layers, layers), (16, 24))


@pytest.mark.parametrize("sampler", ["random", "{name: random}"])
def test_samplers_are_given_by_name_or_with_options(tmp_path: Path, sampler: str) -> None:
    found = load(tmp_path, change(("sampler: tpe", f"sampler: {sampler}"))).search.sampler
    assert found.name == "random"
    found = load(tmp_path, change(("sampler: tpe", "sampler: nsga2"))).search.sampler
    assert found == Nsga2(name="nsga2")


def test_rungs() -> None:
    assert EarlyStopping(first_rung=3, reduction=3).rungs(60) == [3, 9, 27]
    assert EarlyStopping(first_rung=3, reduction=3).rungs(27) == [3, 9]


SCALARS = [
    *("null", "[]", "{}", "-1", "1e400", ".nan", ".inf", "'x'", "true", "9" * 20, "[[1]]"),
    *("*a", "&a", "!!binary", "2001-01-01", "off", "~", "<<", "|", "0", "3", "8"),
    *("{low: 1}", "{low: 5, high: 1}", "{low: 1, high: 1000000000000}", "{choices: [1, [2]]}"),
    "{one_of: {a: 1, b: {low: 0, high: 2}}}",
]
LETTERS = " :{}[],-#&*!|'\"%@\n\t\\\0\r\x85\ufeff0e."


def mutated(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    i, j, at = rng.randrange(len(lines)), rng.randrange(len(lines)), rng.randrange(len(text))
    match rng.randrange(7):
        case 0:
            del lines[i]
        case 1:
            lines.insert(i, lines[j])
        case 2:
            lines[i], lines[j] = lines[j], lines[i]
        case 3:
            return text[:at] + text[at + 1 :]
        case 4:
            return text[:at] + rng.choice(LETTERS) + text[at:]
        case _:
            places = list(re.finditer(r"(?<=: )[\w.-]+|\{[^{}]*\}|\[[^\[\]]*\]|\w+(?=:)", text))
            place = rng.choice(places)
            return text[: place.start()] + rng.choice(SCALARS) + text[place.end() :]
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(4))
def test_any_text_is_a_sweep_or_a_config_error(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(40):
        text = change((PRUNING, NESTED))
        for _ in range(rng.choice([1, 1, 2, 4])):
            text = mutated(text, rng)
        try:
            sweep = load(tmp_path, text)
        except ConfigError:
            continue
        assert load(tmp_path, dump_yaml(sweep.dump())) == sweep


@pytest.mark.parametrize("pruning", [PRUNING, NESTED], ids=["plain", "nested"])
def test_whatever_a_sweep_draws_is_a_candidate(tmp_path: Path, pruning: str) -> None:
    sweep = load(tmp_path, change((PRUNING, pruning)))
    rng = random.Random(0)
    for _ in range(30):
        drawn = distributions.draw(sweep.space, distributions.pick_random(rng)).tree
        candidate = read_candidate(drawn, Input(), 10)
        path = tmp_path / "candidate.yaml"
        path.write_text(dump_yaml(candidate.model_dump(mode="json")))
        assert load_candidate(path) == candidate
