"""Draws, as Optuna is told of them."""

from pathlib import Path
from typing import Any

import optuna
import pytest
from studies import tiny, write

from micronet_search.config.files import load_sweep
from micronet_search.search.prospects import Prospects
from micronet_search.study.draws import Draws
from micronet_search.study.progress import Progress


@pytest.mark.parametrize(
    ("latency", "missed"), [(None, {}), ({"at_most": 2.0}, {"latency": pytest.approx(9.0)})]
)
def test_a_draw_that_is_screened_misses_every_constraint(
    tmp_path: Path, latency: Any, missed: dict[str, Any]
) -> None:
    """What is not set would count as met."""
    tree = tiny(objectives__score__at_most=1e-6, objectives__latency=latency)
    sweep = load_sweep(write(tmp_path / "sweep.yaml", tree))
    study = optuna.create_study(directions=["maximize", "minimize"])
    draws = Draws(sweep, study, Prospects(sweep), Progress(1), lambda line: None)
    assert draws.take(lambda: len(study.trials) == 1) is None
    (trial,) = study.trials
    told = dict(trial.constraints)
    assert told.pop("score") > 0
    assert told == {"accuracy": 1.0, **missed}
