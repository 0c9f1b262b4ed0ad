"""The frontier sampler, and the draws of every sampler over a stop."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import Trial, TrialState
from studies import tiny

from micronet_search.config.files import dump_yaml, load_sweep
from micronet_search.config.sweep import Sweep
from micronet_search.search import samplers, space
from micronet_search.search.prospects import Prospect, Prospects
from micronet_search.search.screening import DIGEST, violations
from micronet_search.search.stopping import RUNGS

NETWORK = {
    "one_of": {
        "dense": tiny()["candidate"]["network"],
        "residual": {"family": "resnet", "stem": {"width": 4}, "widths": [4, 8], "layers": 1},
    }
}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    return sweep_of(tmp_path, "frontier")


def sweep_of(folder: Path, sampler: str, at_most: float = 0.002) -> Sweep:
    options = {"candidates": 64} if sampler == "frontier" else {}
    tree = tiny(search={"trials": 50, "sampler": {"name": sampler, **options}, "seed": 7})
    tree["candidate"]["network"] = NETWORK
    tree["objectives"] = {
        "accuracy": {"at_least": 0.8},
        "score": {"rule": "imt", "at_most": at_most},
    }
    file = folder / f"{sampler}.yaml"
    file.write_text(dump_yaml(tree))
    return load_sweep(file)


def study_of(sweep: Sweep) -> optuna.Study:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = samplers.create(sweep, Prospects(sweep))
    return study


def accuracy_of(prospect: Prospect) -> float:
    """A toy: more weights are better, and more bits."""
    _, _, nonzeros, bits, *_ = prospect.features
    return 0.5 + 0.1 * (nonzeros - 1) + 0.01 * bits


def ask(study: optuna.Study, sweep: Sweep) -> tuple[Trial, Prospect]:
    trial = study.ask()
    prospect = Prospects(sweep).of(space.suggest(trial, sweep.space))
    trial.set_user_attr(DIGEST, prospect.digest)
    return trial, prospect


def run(study: optuna.Study, sweep: Sweep, trials: int) -> Iterator[dict[str, Any]]:
    """Yields the choices of each trial."""
    for _ in range(trials):
        trial, prospect = ask(study, sweep)
        accuracy = accuracy_of(prospect)
        for name, missed in violations(accuracy, prospect.score, sweep.objectives).items():
            trial.set_constraint(name, missed)
        trial.set_user_attr(RUNGS, {"1": (accuracy - 0.1, prospect.score)})
        study.tell(trial, [accuracy, prospect.score])
        yield trial.params


@pytest.mark.parametrize("sampler", ["frontier", "tpe", "nsga2", "random"])
def test_a_stop_changes_no_draw(sampler: str, tmp_path: Path) -> None:
    sweep = sweep_of(tmp_path, sampler)
    unbroken = list(run(study_of(sweep), sweep, 18))
    study = study_of(sweep)
    before = list(run(study, sweep, 12))
    study.sampler = samplers.create(sweep, Prospects(sweep))
    assert before + list(run(study, sweep, 6)) == unbroken
    other = sweep.override(search={"seed": 8})
    assert list(run(study_of(other), other, 18)) != unbroken


def test_no_draw_is_above_the_ceiling_or_known(sweep: Sweep) -> None:
    study = study_of(sweep)
    list(run(study, sweep, 20))
    trials = study.get_trials()
    assert len({trial.user_attrs[DIGEST] for trial in trials}) == 20
    assert max(trial.values[1] for trial in trials) <= sweep.objectives.score.at_most


def test_the_front_of_a_toy_is_found_in_fewer_trials_than_by_random_draws(tmp_path: Path) -> None:
    def found(sampler: str) -> float:
        sweep = sweep_of(tmp_path, sampler)
        study = study_of(sweep)
        list(run(study, sweep, 30))
        return min(trial.values[1] for trial in study.get_trials() if trial.values[0] >= 0.8)

    assert found("frontier") < found("random")


def test_what_is_too_slow_is_drawn_less(tmp_path: Path) -> None:
    """A toy whose latency is its number of layers."""

    def fast(at_most: float | None) -> int:
        sweep = sweep_of(tmp_path, "frontier")
        if at_most is not None:
            sweep = sweep.override(objectives={"latency": {"at_most": at_most}})
        study, found = study_of(sweep), 0
        for _ in range(25):
            trial, prospect = ask(study, sweep)
            latency = float(sum(prospect.candidate.network.layers))
            missed = violations(accuracy_of(prospect), prospect.score, sweep.objectives, latency)
            for name, value in missed.items():
                trial.set_constraint(name, value)
            study.tell(trial, [accuracy_of(prospect), prospect.score])
            found += latency <= 2
        return found

    assert fast(2.0) > fast(None)


def test_choices_that_are_made_already_are_kept(sweep: Sweep) -> None:
    study = study_of(sweep)
    list(run(study, sweep, 12))
    fixed = {
        "network.one_of": "dense",
        "network.dense.stem.width": 4,
        "network.dense.growth_rate": 6,
        "network.dense.layers": "[1,1]",
    }
    for _ in range(3):
        study.enqueue_trial(fixed)
    drawn = list(run(study, sweep, 3))
    assert all(fixed.items() <= params.items() for params in drawn)
    assert len({str(params) for params in drawn}) == 3


def test_what_is_running_is_not_drawn_again(sweep: Sweep) -> None:
    study = study_of(sweep)
    list(run(study, sweep, 12))
    digests = [ask(study, sweep)[1].digest for _ in range(4)]
    assert len(set(digests)) == 4


def test_what_was_stopped_at_a_rung_is_learned_from(sweep: Sweep) -> None:
    def residual(accuracy: float) -> int:
        """How many of the next draws are of a branch whose trials were stopped at an accuracy."""
        study = study_of(sweep)
        list(run(study, sweep, 12))
        for _ in range(6):
            study.enqueue_trial({"network.one_of": "residual"})
            trial, prospect = ask(study, sweep)
            trial.set_user_attr(RUNGS, {"1": (accuracy, prospect.score)})
            study.tell(trial, state=TrialState.PRUNED)
        return sum(params["network.one_of"] == "residual" for params in run(study, sweep, 4))

    assert residual(0.3) < residual(0.9)


def test_an_exhausted_space_is_drawn_from_nevertheless(tmp_path: Path) -> None:
    """What is drawn then is screened, and the study ends."""
    sweep = sweep_of(tmp_path, "frontier", at_most=1e-9)
    assert len(list(run(study_of(sweep), sweep, 3))) == 3
