"""The JSON Schema of a sweep and its page agree with what loads, and with what ships."""

from __future__ import annotations

import copy
import functools
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from limits import MUTANTS
from mutations import BASES, mutant
from typer.testing import CliRunner

from micronet_search.cli.common import app
from micronet_search.config import distributions
from micronet_search.config.files import dump_yaml, load_sweep, read_candidate
from micronet_search.config.loading import ConfigError, CoreLoader, Document, read_yaml
from micronet_search.config.options import FROM_THE_DATASET
from micronet_search.config.schema import plain_models, sweep_schema
from micronet_search.config.sweep import SHAPES
from micronet_search.report.reference import slug

ROOT = Path(__file__).parent.parent
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))
PAGE = ROOT / "docs" / "sweep.md"
EXAMPLES = re.findall(r"^```yaml\n((?!#).*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)

NOT_IN_A_SCHEMA = {
    "fractions that are zero: JSON has one number for 1 and 1.0": r"found -?\d+\.0, expected a who",
    "NaN: JSON has none": "found NaN",
    "the order of two ends": "expected low <= high",
    "how many steps a range has, and where it ends": r"expected at most \d+ steps|found \d+\.\d+, ",
    "the gaps between the ends of a range": r"found \d+, expected 1, 2",
    "as many entries as blocks": "expected one for each block",
    "trials that a confidence needs": "complete trials for a confidence of",
    "rising milestones": "expected rising shares",
    "fewer epochs of warm-up than epochs": "expected fewer epochs of warm-up",
    "blocks that the network has": "expected one of them",
    "strides that the images bear": "halve the image",
    "layers in all": "layers in its blocks",
    "multiples of groups that widths bear": "least common multiple",
    "augmentations beside cached soft targets": "and nothing else",
    "what goes with an engine, or an address": "expected engine: ray|devices of a cluster",
    "the length of a path": "a path of",
    "how many options there are": "options, expected at most",
}
"""What a schema of draft 2020-12 cannot say, or not in a few lines, and the message of `check`."""


@functools.cache
def validator() -> Draft202012Validator:
    return Draft202012Validator(sweep_schema())


def is_valid(tree: Any) -> bool:
    return validator().is_valid(tree)


def refusals(tree: Any, folder: Path) -> list[str]:
    """What is wrong with a sweep when it is loaded."""
    path = folder / "sweep.yaml"
    path.write_text(tree if isinstance(tree, str) else dump_yaml(tree))
    try:
        load_sweep(path)
    except ConfigError as error:
        return [problem.message for problem in error.problems]
    return []


def are_beyond(messages: list[str]) -> bool:
    """Whether a schema cannot say any of what is wrong."""
    return all(any(re.search(one, text) for one in NOT_IN_A_SCHEMA.values()) for text in messages)


def parse(text: str) -> Any:
    return Document(yaml.compose(text, Loader=CoreLoader)).tree


# --- what ships ---


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_that_ships_is_valid_as_written_and_as_stored(path: Path) -> None:
    assert path.read_text().startswith("# yaml-language-server: $schema=schema.json\n")
    assert list(validator().iter_errors(read_yaml(path).tree)) == []
    assert list(validator().iter_errors(load_sweep(path).dump())) == []


@pytest.mark.parametrize(
    ("arguments", "file"),
    [([], "sweeps/schema.json"), (["--format", "markdown"], "docs/sweep.md")],
)
def test_the_files_are_what_the_command_prints(arguments: list[str], file: str) -> None:
    printed = CliRunner().invoke(app, ["schema", *arguments])
    assert printed.exit_code == 0
    assert (ROOT / file).read_text() == printed.stdout, f"print {file} again"


def test_the_schema_is_one_and_asks_no_host() -> None:
    Draft202012Validator.check_schema(validator().schema)
    text = json.dumps(validator().schema)
    assert set(re.findall(r"https?://[^\"]*", text)) == {
        "https://json-schema.org/draft/2020-12/schema"
    }
    defined = {f"#/$defs/{name}" for name in validator().schema["$defs"]}
    assert defined >= set(re.findall(r'"\$ref": "([^"]*)"', text))


def test_every_key_has_a_meaning() -> None:
    for name, model in plain_models().items():
        assert model["description"].endswith("."), name
        mapping = model if "properties" in model else model["anyOf"][0]
        for key, field in mapping["properties"].items():
            assert field.get("description", "").endswith("."), f"{name}.{key} has no meaning"


# --- the page ---


def test_the_page_has_an_example_for_each_section_and_every_key() -> None:
    headings = re.findall(r"^##+ (.+)$", PAGE.read_text(), re.MULTILINE)
    assert len(EXAMPLES) == len(headings)
    rows = Counter(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(), re.MULTILINE))
    keys = Counter(
        key
        for model in plain_models().values()
        for key in (model if "properties" in model else model["anyOf"][0])["properties"]
    )
    assert rows == keys
    links = set(re.findall(r"\]\(#([\w-]+)\)", PAGE.read_text()))
    assert links <= {slug(heading) for heading in headings}
    assert len(set(headings)) == len(headings)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: " ".join(text.split())[:40])
def test_an_example_of_the_page_loads_in_a_sweep(example: str, tmp_path: Path) -> None:
    whole, part = parse(EXAMPLES[0]), parse(example)
    candidate = {**whole["candidate"], **part.get("candidate", {})}
    tree = {**whole, **part, "candidate": candidate}
    assert refusals(tree, tmp_path) == []
    assert list(validator().iter_errors(tree)) == []


# --- agreement with what loads ---


def test_what_is_drawn_is_valid() -> None:
    sweep, rng = load_sweep(ROOT / "sweeps" / "cifar10-all.yaml"), random.Random(0)
    found = 0
    while found < 15:
        tree = distributions.draw(sweep.space, distributions.pick_random(rng)).tree
        try:
            drawn = read_candidate(tree, SHAPES["cifar10"], 10)
        except ValueError:
            continue
        candidate = drawn.model_dump(mode="json", exclude=set(FROM_THE_DATASET))
        for one in (tree, candidate):
            assert list(validator().iter_errors(sweep.dump() | {"candidate": one})) == []
        found += 1


def test_most_mutants_that_are_refused_are_invalid_and_all_that_load_are_valid(
    tmp_path: Path,
) -> None:
    """Of sweeps that are YAML: the others are no trees."""
    path, ended = tmp_path / "mutant.yaml", Counter[tuple[bool, bool]]()
    for number in range(MUTANTS // 3):
        path.write_bytes(mutant(number))
        try:
            document = read_yaml(path)
        except ConfigError:
            continue
        if document.problems:
            continue
        valid, messages = is_valid(document.tree), refusals(path.read_text("utf-8"), tmp_path)
        ended[valid, not messages] += 1
        assert valid or messages, f"mutant {number} loads"
        assert not valid or are_beyond(messages), f"mutant {number} is valid: {messages}"
    refused = ended[False, False] + ended[True, False]
    assert ended[False, False] > 0.97 * refused
    assert ended[True, True] > 0


ODD = (
    *(None, True, 0, -1, 1, 3, 0.5, 10**6, "x", "cosine", [], [1], ["first"], {}, {"a": 1}),
    *({"low": 1, "high": 2}, {"low": 0.1, "high": 0.5, "step": 0.1}, {"low": 1}),
    *({"choices": [1, 2]}, {"choices": [[1, 1], [2]]}, {"choices": []}, {"choices": [{}]}),
    *({"one_of": {"a": 1, "b": {"low": 2, "high": 8}}}, {"one_of": {"none": None}}),
)


def places(node: Any) -> list[tuple[Any, Any]]:
    keys = list(node) if isinstance(node, dict) else range(len(node))
    below = [node[key] for key in keys if isinstance(node[key], dict | list)]
    return [(node, key) for key in keys] + [found for part in below for found in places(part)]


def test_a_sweep_with_one_other_value_is_valid_if_and_only_if_it_loads(tmp_path: Path) -> None:
    rng, ended = random.Random(0), Counter[tuple[bool, bool]]()
    bases = [parse(text) for text in BASES]
    for _ in range(150):
        tree = copy.deepcopy(rng.choice(bases))
        node, key = rng.choice(places(tree))
        node[key] = value = rng.choice(ODD)
        valid, messages = is_valid(tree), refusals(tree, tmp_path)
        assert valid or messages, (key, value, next(validator().iter_errors(tree)).message)
        assert not valid or are_beyond(messages), (key, value, messages)
        ended[valid, not messages] += 1
    assert ended[True, True] > 10
    assert ended[False, False] > 90


RIGHT = """
search: {trials: 1, sampler: tpe}
search: {trials: 1, early_stopping: 'off'}
search: {trials: 1, early_stopping: asha}
search: {trials: 1, early_stopping: [asha, feasibility]}
search: {trials: 1, early_stopping: {rule: dominated, first_rung: auto, keep_hours: null}}
search: {trials: 1, start_from: other, start_with: [a.yaml], stop_when: {stagnant_trials: 3}}
execution: {trials_per_device: auto, device: 'cuda:1'}
execution: {trials_per_device: 256}
dataset: {name: cifar10, validation: 0.5}
dataset: {name: parquet, root: data, validation: 5000}
objectives: {accuracy: {at_most_below: 0, of: {study: a, trial: 0}}, score: {at_most: 1}}
candidate: {training: {schedule: {choices: [cosine, {name: linear}]}}}
candidate: {training: {schedule: {name: {choices: [cosine, linear]}}}}
candidate: {training: {learning_rate: {low: 0.1, high: 1, log: true}, ema: {choices: [null, 0.9]}}}
candidate: {network: {stem: {choices: [{width: 4}, {width: 8, kernel: 1}]}}}
candidate: {network: {family: {choices: [resnet, efficientnet]}, layers: {low: 1, high: 3}}}
candidate: {network: {groups: {choices: [1, [2, 1]]}, layers: [2, 2], layer: {one_of: {a: basic}}}}
candidate: {pruning: {sparsity: {low: 0, high: 1, step: 0.3}, exclude: {choices: [[], [block1]]}}}
candidate: {quantization: {weight_bits: {low: 2, high: 8}, activation_bits: 8}}
candidate: {quantization: {weight_bits: 1, activation_bits: 8, blocks: {block2: {}}}}
candidate: {distillation: {teacher: {study: a, trial: {low: 1, high: 2}}}}
candidate: {start: null, pruning: null, distillation: {one_of: {none: null}}}
"""
WRONG = """
search: {trials: 1, sampler: nsga3}
search: {trials: 1, sampler: {name: random, candidates: 3}}
search: {trials: 1, early_stopping: [asha, 'off']}
search: {trials: 1, early_stopping: {first_rung: 0}}
search: {trials: 1, start_from: '.hidden'}
search: {trials: 2, sampler: {choices: [tpe, random]}}
execution: {trials_per_device: 257}
execution: {device: gpu}
dataset: {name: digits, validation: 1.5}
dataset: {name: digits, root: data}
dataset: {name: folder}
objectives: {accuracy: {}, score: {at_most: 1}}
objectives: {accuracy: {at_most_below: 0.1}, score: {at_most: 1}}
objectives: {accuracy: {at_least: 0.5, of: {study: a, trial: 0}}, score: {at_most: 1}}
candidate: {classes: 10}
candidate: {training: {epochs: true}}
candidate: {training: {batch_size: 1}}
candidate: {training: {batch_size: {low: 1, high: 8}}}
candidate: {training: {epochs: {low: 1, high: 8, step: 0.5}}}
candidate: {training: {learning_rate: {low: 0, high: 1, log: true}}}
candidate: {training: {learning_rate: {low: 1, high: 9, log: true, step: 1}}}
candidate: {training: {optimizer: {choices: [adam, adm]}}}
candidate: {training: {optimizer: {low: 1, high: 2}}}
candidate: {training: {schedule: {choices: [cosine, {name: linear, restarts: 1}]}}}
candidate: {training: {momentum: {low: 0.5, high: 1.0}}}
candidate: {network: {family: {choices: [resnet, vgg]}}}
candidate: {network: {layers: [{low: 1, high: 2}, 1]}}
candidate: {network: {groups: []}}
candidate: {network: {stem: {choices: [{width: {low: 4, high: 8}}]}}}
candidate: {pruning: {sparsity: {one_of: {a.b: 0.5}}}}
candidate: {pruning: {sparsity: {one_of: {one_of: 0.5}}}}
candidate: {pruning: {sparsity: {one_of: {}}}}
candidate: {pruning: {sparsity: {choices: [0.5, 0.5]}}}
candidate: {pruning: {sparsity: 0.5, exclude: [block0]}}
candidate: {quantization: {weight_bits: 9, activation_bits: 8}}
candidate: {quantization: {weight_bits: 4, activation_bits: 1}}
candidate: {quantization: {weight_bits: 4, activation_bits: 4, blocks: {first: {}}}}
candidate: {distillation: {teacher: {study: a, trial: 1, network: {}}}}
candidate: {distillation: {teacher: {study: a}}}
"""
SMALL = """
name: small
dataset: {name: digits}
objectives: {accuracy: {at_least: 0.9}, score: {at_most: 1}}
candidate:
  network: {family: resnet, stem: {width: 4}, widths: [4, 8], layers: 1}
  training: {epochs: 3, learning_rate: 0.1}
search: {trials: 1}
"""


@pytest.mark.parametrize(
    ("change", "is_right"),
    [(line, lines is RIGHT) for lines in (RIGHT, WRONG) for line in lines.strip().splitlines()],
)
def test_shortcuts_and_distributions(change: str, is_right: bool, tmp_path: Path) -> None:
    tree = parse(SMALL)
    for key, value in parse(change).items():
        parts = tree[key] if key == "candidate" else {}
        tree[key] = parts | {name: merged(parts.get(name), part) for name, part in value.items()}
    assert is_valid(tree) == is_right
    assert (refusals(tree, tmp_path) == []) == is_right


def merged(before: Any, after: Any) -> Any:
    both = isinstance(before, dict) and isinstance(after, dict)
    return before | after if both else after


def test_a_candidate_as_a_whole_is_one_of_some(tmp_path: Path) -> None:
    tree = parse(SMALL)
    one = tree["candidate"]
    for candidate, is_right in (
        ({"one_of": {"a": one, "b": {"choices": [one]}}}, True),
        ({"one_of": {"a": one, "none": None}}, False),
        ({"choices": [one]}, False),
        ({"low": 1, "high": 2}, False),
    ):
        changed = tree | {"candidate": candidate}
        assert is_valid(changed) == is_right
        assert (refusals(changed, tmp_path) == []) == is_right
