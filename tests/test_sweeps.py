"""Every sweep that ships is one that runs."""

import os
import random
from pathlib import Path

import pytest

from micronet_search import build
from micronet_search.config import distributions
from micronet_search.config.files import dump_yaml, load_sweep, read_candidate
from micronet_search.config.sweep import SHAPES
from micronet_search.score.rules import scores
from micronet_search.store.paths import StudyFolder

SWEEPS = sorted((Path(__file__).parent.parent / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_that_ships(path: Path, tmp_path: Path) -> None:
    """Twenty candidates of its space build, and some are not screened."""
    sweep = load_sweep(path)
    assert sweep.name == path.stem
    images, goal = SHAPES[sweep.dataset.name], sweep.objectives.score
    pick = distributions.pick_random(random.Random(0))
    found = []
    for _ in range(20):
        candidate = read_candidate(distributions.draw(sweep.space, pick).tree, images, 10)
        found.append(scores(build.predict(candidate))[goal.rule].score)
        network = build.network(candidate, seed=0)
        counted = sum(parameter.numel() for parameter in network.parameters())
        assert counted == build.predict(candidate).parameters
    assert min(found) <= goal.at_most
    assert min(found) < max(found)

    again = StudyFolder(tmp_path).sweep
    again.write_text(dump_yaml(sweep.dump()))
    assert load_sweep(again) == sweep


def test_there_are_some() -> None:
    assert "quickstart" in {path.stem for path in SWEEPS}
    assert not any(os.path.isabs(load_sweep(path).dataset.root or "") for path in SWEEPS)
