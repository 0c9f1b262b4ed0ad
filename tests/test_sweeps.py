"""Every sweep that ships is one that runs."""

import functools
import os
import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FixedTrial
from pydantic import ValidationError

from micronet_search import build
from micronet_search.config import distributions
from micronet_search.config.candidate import Candidate
from micronet_search.config.distributions import Distribution
from micronet_search.config.files import dump_yaml, load_sweep, read_candidate
from micronet_search.config.network import DenseNet
from micronet_search.config.sweep import SHAPES, Sweep
from micronet_search.scoring.rules import scores
from micronet_search.search.encoding import decode, encode
from micronet_search.search.space import find_choices, suggest
from micronet_search.store.paths import StudyFolder

FOLDER = Path(__file__).parent.parent / "sweeps"
SWEEPS = sorted(path.stem for path in FOLDER.glob("*.yaml"))


@functools.cache
def sweep_of(name: str) -> Sweep:
    return load_sweep(FOLDER / f"{name}.yaml")


def drawn(sweep: Sweep, pick: distributions.Pick) -> Candidate:
    tree = distributions.draw(sweep.space, pick).tree
    return read_candidate(tree, SHAPES[sweep.dataset.name], 10)


def candidates(sweep: Sweep, pick: distributions.Pick, count: int) -> Iterator[Candidate]:
    """Random candidates: choices that do not go together, which a study screens, are left out."""
    for _ in range(10 * count):
        with suppress(ValidationError):
            yield drawn(sweep, pick)
            count -= 1
        if not count:
            return
    pytest.fail(f"most draws of {sweep.name} are no candidates")


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_that_ships(name: str, tmp_path: Path) -> None:
    """Candidates of its space build, and some are not screened."""
    sweep = sweep_of(name)
    assert sweep.name == name
    goal = sweep.objectives.score
    pick = distributions.pick_random(random.Random(0))
    found = set()
    for candidate in candidates(sweep, pick, 5):
        cost = build.predict(candidate)
        found.add(scores(cost)[goal.rule].score)
        if candidate.structured_pruning is None and candidate.factorization is None:
            network = build.network(candidate, seed=0)
            counted = sum(parameter.numel() for parameter in network.parameters())
            assert counted == cost.parameters
    assert min(found) <= goal.at_most
    assert (len(found) > 1) == bool(distributions.leaves(sweep.space))

    early, epochs = sweep.search.early_stopping, sweep.candidate["training"]["epochs"]
    assert not early.rule or early.rungs(epochs) == [round(2 * epochs / 3)]

    again = StudyFolder(tmp_path).sweep
    again.write_text(dump_yaml(sweep.dump()))
    assert load_sweep(again) == sweep


def test_there_are_some() -> None:
    assert {"quickstart", "cifar10-all", "forest-2023"} <= set(SWEEPS)
    assert not any(os.path.isabs(sweep_of(name).dataset.root or "") for name in SWEEPS)


def test_forest_2023_is_the_recipe_of_the_report() -> None:
    sweep = sweep_of("forest-2023")
    assert (sweep.search.trials, distributions.leaves(sweep.space)) == (1, {})
    candidate = drawn(sweep, distributions.pick_from({}))
    network, training, bits = candidate.network, candidate.training, candidate.quantization
    assert isinstance(network, DenseNet)
    assert network.groups == (2, 3, 3)
    assert (training.optimizer, training.schedule.name) == ("adam", "cosine")
    augmentation = training.augmentation
    assert min(augmentation.crop, augmentation.flip, augmentation.mixup, augmentation.cutmix) > 0
    assert bits is not None
    assert (bits.mode, bits.weight_bits, bits.activation_bits) == ("static", 16, 16)
    cost = build.predict(candidate)
    assert cost.nonzeros == pytest.approx(112_000, rel=0.01)
    # Half of 32 bits each: 88,108,200 MACs of 2.8e8, and the nonzeros of 5.6e6.
    expected = 88_108_200 / 5.6e8 + cost.nonzeros / 11.2e6
    assert scores(cost)["imt"].score == pytest.approx(expected)
    assert 0.9 < expected / sweep.objectives.score.at_most < 1
    assert sweep.objectives.accuracy.at_least == 0.90


FIXED = {
    "classes",
    "distillation.teacher",
    "input",
    "network.depth_multiplier",  # multiplied already, and 1 in the candidate
    "network.stem.kernel",
    "network.width_multiplier",  # likewise
    "pruning.kind",
    "start",
    "training.epochs",
}
"""What does not differ between two draws of cifar10-all; every other field is searched."""


def test_cifar10_all_searches_every_field() -> None:
    sweep = sweep_of("cifar10-all")
    values: dict[str, set[str]] = defaultdict(set)

    def collect(node: Any, path: str) -> None:
        if isinstance(node, dict) and path not in FIXED:
            for name, value in node.items():
                collect(value, f"{path}.{name}".lstrip("."))
        else:
            values[path].add(str(node))

    for choices in distributions.singles(sweep.space):
        collect(drawn(sweep, distributions.pick_from(choices)).model_dump(mode="json"), "")
    inner = {path.rpartition(".")[0] for path in values}
    assert {path for path, found in values.items() if len(found) == 1} - inner == FIXED
    leaves = distributions.leaves(sweep.space)
    assert {"network.efficientnet.width_multiplier", "network.efficientnet.depth_multiplier"} <= (
        leaves.keys()
    )
    options = [found.options() for path, (found, _) in leaves.items() if "weight_bits" in path]
    assert any(1 in bits for bits in options)


def test_draws_of_cifar10_all_are_found_again() -> None:
    sweep, rng = sweep_of("cifar10-all"), random.Random(0)
    images = SHAPES[sweep.dataset.name]

    def pick(path: str, found: Distribution) -> Any:
        return decode(found, encode(found, found.sample(rng)))

    for candidate in candidates(sweep, pick, 20):
        params = find_choices(sweep.space, candidate.model_dump(mode="json"))
        assert read_candidate(suggest(FixedTrial(params), sweep.space), images, 10) == candidate
