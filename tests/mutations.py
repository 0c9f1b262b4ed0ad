"""Sweeps that are wrong in some way: small valid ones, and what a careless or hostile hand makes.

A mutant follows from its number alone, so that any one can be made again.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import yaml

Tree = Any

HEAD = """
name: base
dataset: {name: digits, validation: 100, limit: 300}
objectives: {accuracy: {at_least: 0.2}, score: {rule: imt, at_most: 0.01}}
search: {trials: 3, hours: 1.5, sampler: {name: tpe, startup_trials: 2, candidates: 4}, seed: 3}
"""

DENSENET = """
candidate:
  network:
    family: densenet
    stem: {width: {choices: [4, 8]}, kernel: 3, stride: 1}
    growth_rate: {low: 4, high: 12, step: 4}
    layers: {choices: [[1, 1], [2, 1]]}
    groups: {choices: [1, [2, 1]]}
    pointwise_groups: [1, 2]
    bottleneck: {choices: [0, 2]}
    compression: 0.5
    convolution: plain
  training:
    {epochs: 3, batch_size: 32, optimizer: adam, learning_rate: {low: 0.003, high: 0.02, log: true},
     momentum: 0.9, schedule: one-cycle, warmup: 0, weight_decay: 0.0001, label_smoothing: 0.1,
     ema: null, gradient_clip: 1.0}
  pruning:
    {kind: unstructured, sparsity: {low: 0.2, high: 0.8, step: 0.2}, exclude: [first, block1],
     schedule: iterative, rounds: 3, epochs: 1, learning_rate_factor: 0.5}
  quantization:
    mode: static
    weight_bits: {choices: [1, 4, 8]}
    activation_bits: 8
    first: {weight_bits: 8, activation_bits: null}
    last: {weight_bits: null, activation_bits: {choices: [4, 8]}}
    blocks: {block1: {weight_bits: 2, activation_bits: 4}, block2: {weight_bits: 16}}
    epochs: 1
    learning_rate_factor: 0.1
"""

FAMILIES = """
candidate:
  network:
    one_of:
      resnet:
        family: resnet
        stem: {width: 4}
        widths: {choices: [[4, 8], [8, 8]]}
        layers: 1
        layer: {choices: [basic, bottleneck]}
        groups: 2
        convolution: separable
      efficientnet:
        family: efficientnet
        stem: {width: 8}
        widths: [8, 16]
        layers: [1, 1]
        strides: [1, 2]
        kernels: {choices: [3, [3, 5]]}
        expansions: 2
        squeeze: {choices: [0.0, 0.25]}
        groups: 1
        convolution: separable
        activation: hard-swish
        head: 16
        width_multiplier: 1.0
        depth_multiplier: {choices: [1.0, 1.5]}
  training:
    epochs: {low: 2, high: 4}
    learning_rate: 0.01
    optimizer: {choices: [sgd, muon]}
    schedule:
      one_of:
        cosine: {name: cosine, restarts: 1}
        steps: {name: multi-step, milestones: [0.5, 0.75], factor: 0.1}
    augmentation:
      {crop: 1, flip: true, rotation: 5.0, policy: trivial, erasing: 0.1, mixup: 0.2, cutmix: 1.0,
       jitter: {brightness: 0.1, contrast: 0.1, saturation: 0.1, hue: 0.1}, mix_probability: 0.5,
       unmixed_epochs: 1}
  distillation:
    one_of:
      none: null
      teacher:
        teacher:
          network: {family: resnet, stem: {width: 8}, widths: [8, 8], layers: 1}
          training: {epochs: 2, learning_rate: 0.1}
        temperature: {low: 1.0, high: 8.0}
        weight: 0.5
  structured_pruning: {one_of: {none: null, thin: {ratio: {low: 0.1, high: 0.5}, epochs: 1}}}
  factorization: {kind: {choices: [svd, tucker]}, ratio: 0.5, epochs: 1, learning_rate_factor: 0.3}
  quantization:
    one_of: {none: null, dynamic: {mode: dynamic, weight_bits: 4, activation_bits: 4, epochs: 1}}
"""

FIXED = """
name: fixed
dataset: {name: cifar10, root: data, validation: 0.1, limit: 2000}
objectives: {accuracy: {at_least: 0.9}, score: {rule: micronet2019, at_most: 0.03}}
candidate:
  network: {family: densenet, stem: {width: 4, stride: 2}, growth_rate: 4, layers: [1, 1]}
  training: {epochs: 3, learning_rate: 0.01, schedule: {name: linear}}
  distillation: {teacher: {study: base, trial: 7}}
  start: {study: base, trial: 7}
  structured_pruning: {ratio: 0.3}
search:
  trials: 2
  sampler: {name: nsga2, population: 4, mutation: null, crossover: 0.9}
  start_with: []
  start_from: {study: base, trials: [3, 7]}
  stop_when: {stagnant_trials: 2}
  early_stopping:
    {rule: [asha, feasibility, dominated], first_rung: 1, reduction: 2, confidence: 0.9,
     after: 10, keep_hours: 2.0}
execution: {engine: ray, device: cpu, trials_per_device: 2, address: "127.0.0.1:9", retries: 0}
tracking: {optuna: "sqlite:///a.db", mlflow: "http://127.0.0.1:9", artifacts: "file:///a"}
"""

FOLDER = """
name: folder
dataset: {name: folder, root: nowhere, validation: 1}
objectives: {accuracy: {at_least: 0.2}, score: {at_most: 1.0}}
candidate:
  network: {family: resnet, stem: {width: 4}, widths: [4], layers: [1]}
  training: {epochs: 1, learning_rate: 0.01}
search: {trials: 1, sampler: random, start_with: [nowhere.yaml], early_stopping: 'off'}
"""

BASES = (HEAD + DENSENET, HEAD + FAMILIES, FIXED, FOLDER)


def mutant(number: int) -> bytes:
    """The file that a number stands for."""
    rng = random.Random(number)
    text = rng.choice(BASES)
    if rng.random() < 0.7:
        tree = yaml.safe_load(text)
        for _ in range(rng.choice([1, 1, 1, 2, 4])):
            tree = rng.choice(OF_TREES)(tree, rng)
        text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=rng.random() < 0.5)
    content = text.encode()
    if rng.random() < 0.4:
        for _ in range(rng.choice([1, 1, 2, 5])):
            content = rng.choice(OF_TEXTS)(content, rng)
    return content


# --- of the tree ---

ODD: tuple[Callable[[random.Random], Any], ...] = (
    lambda rng: None,
    lambda rng: rng.random() < 0.5,
    lambda rng: rng.choice([0, -1, 1, 2, 7, 200, 1024, 4096, 65536, 2**31, 2**62, 2**63, 10**40]),
    lambda rng: -(10 ** rng.randrange(40)),
    lambda rng: rng.choice([0.0, -0.0, 0.5, 1.0, 1e-300, 1e300, -2.5, 5e-324, 1 + 1e-9, 1e15]),
    lambda rng: rng.choice([float("nan"), float("inf"), -float("inf")]),
    lambda rng: rng.choice(
        ["", "x", "off", "../..", "/etc/passwd", "a\0b", "ü\u2028\u202e", "1e3"]
    ),
    lambda rng: rng.choice("xé\U0001f600") * rng.choice([100, 10_000, 40_000]),
    lambda rng: [],
    lambda rng: {},
    lambda rng: [[]],
    lambda rng: [rng.randrange(5) for _ in range(rng.choice([1, 3, 8, 17, 1000]))],
    lambda rng: [_odd(rng) for _ in range(3)],
    lambda rng: {"a": _odd(rng), "family": _odd(rng)},
    lambda rng: _nested(rng.choice([3, 30, 60])),
    lambda rng: _distribution(rng),
    lambda rng: _distribution(rng),
    lambda rng: _distribution(rng),
)


def _odd(rng: random.Random) -> Any:
    return rng.choice(ODD)(rng)


def _nested(depth: int) -> Any:
    found: Any = 1
    for level in range(depth):
        found = [found] if level % 2 else {"a": found}
    return found


def _number(rng: random.Random) -> Any:
    return rng.choice([0, 1, 2, 3, 4, 8, -1, 0.0, 0.1, 0.5, 1.0, 1e-9, 300, 1e6, 10**14, 10**16])


def _distribution(rng: random.Random) -> Any:
    low, high, step = (_number(rng) for _ in range(3))
    return rng.choice(
        [
            {"low": low, "high": high},
            {"low": high, "high": low, "log": rng.choice([True, False, 1, "yes"])},
            {"low": low, "high": high, "step": step},
            {"low": low, "high": high, "step": step, "log": True},
            {"low": low, "high": low},
            {"low": low},
            {"low": _odd(rng) if rng.random() < 0.3 else low, "high": [high]},
            {"choices": [_number(rng) for _ in range(rng.choice([0, 1, 2, 5, 200]))]},
            {"choices": [_odd(rng) if rng.random() < 0.5 else low for _ in range(3)]},
            {"choices": {"a": 1}},
            {"choices": [[4, 4], [4], 4, "4", 4.0, True, None, {"a": 1}]},
            {"choices": [{"low": 1, "high": 2}, {"one_of": {"a": 1}}]},
            {"one_of": {"a": low, "b": {"one_of": {"c": high, "d": step}}}},
            {"one_of": {}},
            {"one_of": [low]},
            {"one_of": {"one_of": 1, "a.b": 2}},
            {"one_of": {"a": None}, "choices": [1], "low": 1},
        ]
    )


Place = tuple[Any, Any]
"""A mapping or a list, and the key or the number of something in it."""


def _places(node: Tree) -> Iterator[Place]:
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield node, key
        if isinstance(value, dict | list):
            yield from _places(value)


def _place(tree: Tree, rng: random.Random) -> Place:
    places = list(_places(tree)) if isinstance(tree, dict | list) else []
    return rng.choice(places) if places else ({"": tree}, "")


def _replace(tree: Tree, rng: random.Random) -> Tree:
    node, key = _place(tree, rng)
    node[key] = _odd(rng)
    return tree


def _drop(tree: Tree, rng: random.Random) -> Tree:
    node, key = _place(tree, rng)
    del node[key]
    return tree


def _rename(tree: Tree, rng: random.Random) -> Tree:
    node, key = _place(tree, rng)
    others = [key for _, key in _places(tree)] if isinstance(tree, dict) else []
    name = rng.choice([*others, f"{key}x", "", "one_of", "low", None, 1, "a\nb", "x" * 2000])
    if isinstance(node, dict) and not isinstance(name, dict | list):
        node[name] = node.pop(key)
    return tree


def _add(tree: Tree, rng: random.Random) -> Tree:
    node, _ = _place(tree, rng)
    if isinstance(node, dict):
        node[rng.choice(["x", "choices", "input", "classes", "step", "dataset"])] = _odd(rng)
    else:
        node.extend([_odd(rng)] * rng.choice([1, 10]))
    return tree


def _exchange(tree: Tree, rng: random.Random) -> Tree:
    (one, a), (other, b) = _place(tree, rng), _place(tree, rng)
    first, second = copy.deepcopy(one[a]), copy.deepcopy(other[b])
    one[a] = second
    if b in other if isinstance(other, dict) else b < len(other):
        other[b] = first
    return tree


def _scale(tree: Tree, rng: random.Random) -> Tree:
    """A number of the right type that is too large, too small, or an edge."""
    places = [(node, key) for node, key in _places(tree)] if isinstance(tree, dict) else []
    numbers = [(node, key) for node, key in places if type(node[key]) in (int, float)]
    if numbers:
        node, key = rng.choice(numbers)
        node[key] = rng.choice([node[key] * 10 ** rng.randrange(1, 7), -node[key], _number(rng)])
    return tree


def _wrap(tree: Tree, rng: random.Random) -> Tree:
    """A value as one that is searched, beside another or in a branch."""
    node, key = _place(tree, rng)
    value = node[key]
    node[key] = rng.choice(
        [
            {"choices": [value, _odd(rng)]},
            {"choices": [value, _number(rng)]},
            {"one_of": {"a": value, "b": copy.deepcopy(value)}},
            {"one_of": {"a": value, "b": _odd(rng)}},
            [value],
            {"low": value, "high": value},
        ]
    )
    return tree


OF_TREES: tuple[Callable[[Tree, random.Random], Tree], ...] = (
    _replace,
    _replace,
    _drop,
    _rename,
    _add,
    _exchange,
    _scale,
    _scale,
    _wrap,
    _wrap,
)

# --- of the text ---

PIECES = (
    b"!!python/object/apply:os.system [id] ",
    b"!!binary ",
    b"!!int ",
    b"!!float x",
    b"!!set {a} ",
    b"! ",
    b"&a ",
    b"*a ",
    b"*b ",
    b"&a [*a] ",
    b"<<: *a\n",
    b"<<: {a: 1}\n",
    b"\t",
    b"\n---\n",
    b"\n...\n",
    b"%YAML 1.1\n---\n",
    b"%TAG ! tag:x,2000:\n",
    b"\xef\xbb\xbf",
    b"\x00",
    b"\xff\xfe",
    b"\xc3",
    b"\xed\xa0\x80",
    b"\x85",
    b"\xe2\x80\xa8",
    b"\x1b[31m",
    b"? ",
    b": ",
    b"- ",
    b"[",
    b"{",
    b"}]",
    b"[" * 500,
    b"{a: " * 500,
    b"- " * 500,
    b"'",
    b'"\\uD800"',
    b'"\\UFFFFFFFF"',
    b"|\n",
    b"|9-\n",
    b"#",
    b"9" * 5000,
    b"1e" + b"9" * 400,
    b"0x" + b"f" * 400,
    b"x" * 70_000,
    b"x: " * 300,
    b"? [a, b]\n: c\n",
)


def _at(content: bytes, rng: random.Random) -> int:
    return rng.randrange(len(content) + 1)


def _flip(content: bytes, rng: random.Random) -> bytes:
    found = bytearray(content or b"x")
    for _ in range(rng.choice([1, 3, 20])):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _cut(content: bytes, rng: random.Random) -> bytes:
    start = _at(content, rng)
    return content[:start] + content[start + rng.choice([1, 2, 30, 10_000]) :]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = _at(content, rng)
    return content[:place] + rng.choice(PIECES) + content[place:]


def _insert_at_a_value(content: bytes, rng: random.Random) -> bytes:
    """Before a value, a key or an item, where a tag or an anchor belongs."""
    places = [i + 2 for i in range(len(content)) if content[i : i + 2] in (b": ", b"- ", b"  ")]
    place = rng.choice(places or [0])
    return content[:place] + rng.choice(PIECES) + content[place:]


def _repeat(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    start = rng.randrange(len(lines))
    part = lines[start : start + rng.choice([1, 2, 10])] * rng.choice([1, 1, 300])
    lines[start:start] = part
    return b"".join(lines)


def _indent(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True) or [b""]
    place = rng.randrange(len(lines))
    lines[place] = rng.choice([b" ", b"    ", b"\t", b""]) + lines[place].lstrip(b" ")
    return b"".join(lines)


def _encode(content: bytes, rng: random.Random) -> bytes:
    return content.decode("utf-8", "replace").encode(
        rng.choice(["utf-16", "utf-32-be", "cp1252"]), "replace"
    )


OF_TEXTS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _flip,
    _cut,
    _insert,
    _insert_at_a_value,
    _insert_at_a_value,
    _repeat,
    _indent,
    _encode,
)
