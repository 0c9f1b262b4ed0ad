"""Studies from notebooks and scripts."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from studies import tiny, write

import micronet_search as ms
from micronet_search.data.splits import load
from micronet_search.scoring.rules import scores
from micronet_search.store.outcome import read_outcomes
from micronet_search.store.paths import Root


def test_importing_it_is_quick() -> None:
    code = (
        "import sys, micronet_search as ms\n"
        "assert ms.__version__ and 'Study' in dir(ms)\n"
        "assert not {'torch', 'optuna', 'mlflow', 'pandas'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_study_as_tables(finished: Path) -> None:
    study = ms.Study("tiny", finished)
    outcomes = read_outcomes(Root(finished).study("tiny"), "imt")
    trials, front = study.trials(), study.front()
    assert list(trials.index) == sorted(outcomes) == [0, 1, 2]
    for number, outcome in outcomes.items():
        row = trials.loc[number]
        assert row["accuracy"] == outcome.accuracy
        assert row["score"] == outcome.scores["imt"]["score"]
        assert row["macs"] == outcome.macs
        assert row["network.growth_rate"] in range(4, 13, 2)
    assert front["score"].is_monotonic_increasing
    assert front["front"].all()
    assert set(front.index) == set(trials[trials["front"]].index)
    assert repr(study) == f"<Study tiny: 3 of 3 trials, {len(front)} on the front>"


def test_the_best_network_is_a_torch_module(finished: Path, tmp_path: Path) -> None:
    study = ms.Study("tiny", finished)
    best = study.best()
    assert best.number == study.front().index[0]
    network, splits = best.network(), load(study.sweep.dataset)
    with torch.no_grad():
        classes = network(splits.validation.images).argmax(1)
    share = (classes == splits.validation.labels).double().mean().item()
    assert share == pytest.approx(best.outcome.accuracy)
    assert list(best.curve().columns) == ["stage", "loss", "accuracy", "seconds", "ended"]
    own = best.outcome.scores["imt"]["score"]
    assert scores(ms.score(network).cost)["imt"].score == pytest.approx(own)
    assert ms.score(best.candidate).kind == "predicted"
    exported = best.export(tmp_path / "model")
    assert scores(ms.score(tmp_path / "model/model.mnz").cost)["imt"].score == pytest.approx(own)
    assert exported.path == tmp_path / "model"


def test_a_study_is_run_and_goes_on(runs: Path, tmp_path: Path) -> None:
    sweep = ms.load_sweep(write(tmp_path / "tiny.yaml", tiny()))
    study = ms.run(sweep, root=runs, trials=1, device="cpu")
    assert len(study.trials()) == 1
    ms.run(tmp_path / "tiny.yaml", root=runs, trials=2)
    assert len(study.trials()) == 1  # as it was read
    study.refresh()
    assert isinstance(study.trials(), pd.DataFrame)
    assert len(study.trials()) == 2


@pytest.mark.parametrize("wrong", [torch.nn.ReLU(), 3, "model.pkl"])
def test_what_cannot_be_scored_is_told(wrong: Any) -> None:
    with pytest.raises(ValueError, match="expected a"):
        ms.score(wrong)


def test_what_is_not_there_is_told(finished: Path) -> None:
    with pytest.raises(ValueError, match=r"no study other under .*, expected one of: tiny"):
        ms.Study("other", finished)
    with pytest.raises(ValueError, match=r"found no trial 9 of tiny that has ended"):
        ms.Study("tiny", finished).trial(9)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = ms.nothing
