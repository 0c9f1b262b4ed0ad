"""Random candidates over all families and techniques, small enough to train in a test."""

import random
from typing import Any

import yaml
from pydantic import ValidationError
from torch import nn

from micronet_search.compression.technique import techniques_of
from micronet_search.config import distributions, grammar
from micronet_search.config.candidate import Candidate
from micronet_search.config.files import read_candidate
from micronet_search.config.network import Input

SMALL = Input(channels=3, height=8, width=8)

NETWORKS = """
# Lists for each block are as long as the longest network, and cut to what others have.
densenet:
  family: densenet
  stem: &stem
    width: {low: 2, high: 8}
    kernel: {choices: [1, 3, 5, 7]}
    stride: {choices: [1, 2, 4]}
  growth_rate: {low: 1, high: 6}
  layers: {choices: [[1], [2], [1, 2], [2, 1], [1, 1, 2]]}
  groups: &groups {choices: [1, 2, 3, [1, 2, 2], [2, 1, 3]]}
  pointwise_groups: {choices: [1, 2, [2, 1, 2]]}
  bottleneck: {choices: [0, 1, 2]}
  compression: {low: 0.2, high: 1.0}
  convolution: &convolution {choices: [plain, separable]}
  between: &between {choices: [norm-activation, norm, activation, nothing]}
resnet:
  family: resnet
  stem: *stem
  widths: &widths {choices: [[4], [7], [4, 8], [8, 5], [6, 4, 8]]}
  layers: &layers {choices: [1, 2, [1, 2, 1], [2, 1, 1]]}
  layer: {choices: [basic, bottleneck]}
  groups: *groups
  convolution: *convolution
  between: *between
efficientnet:
  family: efficientnet
  stem: *stem
  widths: *widths
  layers: *layers
  strides: {choices: [1, 2, [2, 1, 2], [1, 2, 2]]}
  kernels: {choices: [3, 5, 7, [5, 3, 7]]}
  expansions: {choices: [1, 3, [1, 2, 4]]}
  squeeze: {choices: [0.0, 0.25, 1.0, [0.25, 0.0, 0.5]]}
  groups: *groups
  convolution: *convolution
  between: *between
  activation: {choices: [relu, silu, hard-swish]}
  head: {choices: [0, 9, 16]}
  width_multiplier: {choices: [1.0, 0.5, 1.3]}
  depth_multiplier: {choices: [1.0, 0.5, 1.4]}
"""
REST = """
training: &training
  epochs: {choices: [1, 2, 3]}
  batch_size: {choices: [8, 16]}
  optimizer: {choices: [sgd, adam, adamw, muon]}
  learning_rate: {low: 0.0005, high: 0.01, log: true}
  momentum: {choices: [0.0, 0.9]}
  schedule:
    one_of:
      cosine: cosine
      restarts: {name: cosine, restarts: 1}
      one-cycle: one-cycle
      linear: linear
      multi-step: multi-step
      milestones: {name: multi-step, milestones: [0.25, 0.5], factor: 0.3}
  warmup: {choices: [0, 1]}
  weight_decay: {choices: [0.0, 0.001]}
  label_smoothing: {choices: [0.0, 0.1]}
  ema: {choices: [null, 0.5]}
  gradient_clip: {choices: [null, 1.0]}
  augmentation:
    one_of:
      none: {}
      all:
        crop: {choices: [0, 2]}
        flip: {choices: [false, true]}
        rotation: {low: 0.0, high: 180.0}
        jitter:
          brightness: {low: 0.0, high: 1.0}
          contrast: {low: 0.0, high: 1.0}
          saturation: {low: 0.0, high: 1.0}
          hue: {low: 0.0, high: 0.5}
        policy: {choices: [null, trivial, rand]}
        erasing: {choices: [0.0, 0.5, 1.0]}
        mixup: {choices: [0.0, 0.2, 1.0]}
        cutmix: {choices: [0.0, 1.0]}
        mix_probability: {choices: [0.5, 1.0]}
        unmixed_epochs: {choices: [0, 1]}
distillation:
  one_of:
    none: null
    some:
      teacher: {network: NETWORKS, training: *training}
      temperature: {low: 1.0, high: 8.0}
      weight: {choices: [0.1, 0.5, 1.0]}
structured_pruning:
  one_of:
    none: null
    some: {ratio: {low: 0.0, high: 0.9}, epochs: &epochs {choices: [0, 1]}}
factorization:
  one_of:
    none: null
    some:
      kind: {choices: [svd, tucker]}
      ratio: {low: 0.05, high: 1.0}
      epochs: *epochs
pruning:
  one_of:
    none: null
    some: &pruning
      sparsity: {low: 0.0, high: 0.95}
      exclude: {choices: [[], [first], [last, depthwise], [block1, first], [block2]]}
      schedule: {choices: [cubic, one-shot]}
      epochs: &more_epochs {choices: [0, 1, 2]}
    rounds:
      sparsity: {low: 0.0, high: 0.95}
      exclude: {choices: [[], [last]]}
      schedule: iterative
      rounds: {choices: [null, 2, 5]}
      epochs: *more_epochs
quantization:
  one_of:
    none: null
    some:
      mode: {choices: [static, dynamic]}
      weight_bits: &weight_bits {choices: [1, 2, 3, 4, 5, 6, 7, 8, 16, 32]}
      activation_bits: &activation_bits {choices: [2, 3, 4, 5, 6, 7, 8, 16, 32]}
      first: &widths
        one_of:
          body: {}
          apart: {weight_bits: *weight_bits, activation_bits: *activation_bits}
      last: *widths
      blocks: {one_of: {none: {}, one: {block1: *widths}, both: {block1: *widths, block2: *widths}}}
      epochs: *epochs
"""


STEMS = [{"kernel": kernel, "stride": stride} for kernel in (1, 3, 5, 7) for stride in (1, 2, 4)]
"""All kernels and strides of a stem."""


def _space() -> Any:
    networks = {"one_of": yaml.safe_load(NETWORKS)}
    tree = yaml.safe_load(REST) | {"network": networks}
    tree["distillation"]["one_of"]["some"]["teacher"]["network"] = networks
    return grammar.parse(tree)


SPACE = _space()
"""All families and techniques; not every draw is a candidate."""


def _cut(network: dict[str, Any]) -> None:
    """Cuts lists with an entry for each block to the blocks that the network has."""
    blocks = len(network["widths" if "widths" in network else "layers"])
    for name, value in network.items():
        if isinstance(value, list):
            network[name] = value[:blocks]


def random_candidate(
    rng: random.Random, image: Input = SMALL, classes: int = 4, **parts: Any
) -> Candidate:
    """A valid candidate with a tiny network, each technique taken or not.

    Args:
        rng: Where the choices come from.
        image: The shape of its images, at least 8 x 8.
        classes: How many classes they have.
        parts: Plain trees in the place of what is drawn: `network=...`, `pruning=None`.
    """
    while True:
        tree = distributions.draw(SPACE, distributions.pick_random(rng)).tree
        networks = [tree["network"]]
        networks += [tree["distillation"]["teacher"]["network"]] if tree["distillation"] else []
        for network in networks:
            _cut(network)
        try:
            return read_candidate(tree | parts, image, classes)
        except ValidationError:  # Too much warm-up, too many strides, blocks that are not there.
            continue


def reshape(network: nn.Module, candidate: Candidate) -> None:
    """Applies the techniques that change which tensors there are, as a trial does."""
    for technique in techniques_of(candidate):
        if technique.reshapes:
            technique.transform(network, candidate)
