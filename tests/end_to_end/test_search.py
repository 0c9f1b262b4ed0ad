"""Screening, early stopping, candidates that are tried first, failures, other storages."""

import shutil
from pathlib import Path

import pytest
import studies
import yaml
from optuna.trial import TrialState
from studies import Kill, assert_judged, assert_whole, cli, read, tiny, write

from micronet_search.config.files import load_sweep
from micronet_search.study.survey import score_of, violations


def screened(left: studies.Left) -> list:
    return [trial for trial in left.optuna if "screened" in trial.user_attrs]


def test_what_is_predicted_above_the_ceiling_is_screened(tmp_path: Path, runs: Path) -> None:
    """The ceiling lies in the middle of the space."""
    tree = tiny("ceiling", search__trials=2, objectives__score__at_most=1.5e-4)
    sweep = write(tmp_path / "sweep.yaml", tree)
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "ceiling")
    assert_whole(left, trials=2)
    refused = screened(left)
    assert refused
    assert done.out.count(" screened: predicted score") == len(refused)
    for trial in refused:
        assert trial.state == TrialState.PRUNED
        missed = studies.constraints(trial)
        assert missed.keys() == {"accuracy", "score"}
        assert missed["accuracy"] == 1.0  # in full: what is not set would count as met
        assert missed["score"] > 0
        assert not left.folder(trial.number).exists()
    assert len(left.optuna) == 2 + len(refused)
    assert sum("screened" in run.tags for run in left.children.values()) == 0


SMALL = {"candidate__network__stem__width": 4, "candidate__network__growth_rate": 4} | {
    "candidate__network__layers": [1, 1],
    "candidate__training__learning_rate": 0.01,
    "candidate__training__epochs": 1,
    "candidate__pruning": None,
    "candidate__quantization": {
        "weight_bits": {"choices": [2, 4, 8]},
        "activation_bits": 8,
        "epochs": 0,
    },
}


def test_an_exhausted_space_ends_the_study(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", tiny("three", search__trials=10, **SMALL))
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "the space is exhausted, or nearly so" in done.out
    assert "three: 3 of 10 trials" in done.out
    left = read(runs, "three")
    assert_whole(left, trials=3)
    goals = load_sweep(left.root.study("three").sweep).objectives
    last = screened(left)[-100:]
    assert len(last) == 100
    for trial in last:
        of = int(trial.user_attrs["screened"].rsplit(" ", 1)[1])
        assert studies.constraints(trial) == violations(left.outcomes[of], goals)


def test_a_ceiling_below_everything_ends_the_study(tmp_path: Path, runs: Path) -> None:
    tree = tiny("low", objectives__score__at_most=1e-9)
    done = cli("run", write(tmp_path / "sweep.yaml", tree), "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "raise objectives.score.at_most" in done.out
    assert "no trial is feasible yet" in done.out
    left = read(runs, "low")
    assert len(left.optuna) == 100
    assert not left.outcomes
    assert not left.children
    assert left.parent.status == "FINISHED"
    status = cli("status", "low", "--root", runs, cwd=tmp_path)
    assert status.code == 0
    assert "0/3" in status.out
    assert "the front of low is empty" in cli("front", "low", "--root", runs, cwd=tmp_path).error


def test_asha_stops_trials(tmp_path: Path, runs: Path) -> None:
    early = {"rule": "asha", "first_rung": 1, "reduction": 2}
    tree = tiny("stopping", search__trials=6, search__early_stopping=early)
    done = cli("run", write(tmp_path / "sweep.yaml", tree), "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "stopping")
    assert_whole(left, trials=6)
    assert_judged(left)
    stopped = {n: o for n, o in left.outcomes.items() if o.state == "stopped"}
    assert 0 < len(stopped) < 6
    for number, outcome in stopped.items():
        rung = len(outcome.curve)
        assert rung in (1, 2)
        assert outcome.accuracy == outcome.curve[-1].accuracy
        assert outcome.reason is not None
        assert outcome.reason.startswith(f"asha at the rung of epoch {rung}")
        assert left.optuna[number].state == TrialState.PRUNED
        assert (left.folder(number) / "checkpoint.safetensors").exists()
        assert not (left.folder(number) / "model.safetensors").exists()
    assert f"{len(stopped)}" in cli("status", "stopping", "--root", runs, cwd=tmp_path).out


def test_a_known_candidate_is_tried_first(tmp_path: Path, runs: Path, finished: Path) -> None:
    """Edited by hand within the space; the sweep names it relative to itself."""
    earlier = finished / "studies/tiny/trials/0000/candidate.yaml"
    candidate = yaml.safe_load(earlier.read_text())
    bits = candidate["quantization"]["weight_bits"]
    candidate["quantization"]["weight_bits"] = 4 if bits == 8 else 8
    folder = tmp_path / "my sweeps"
    folder.mkdir()
    write(folder / "known.yaml", candidate)
    tree = tiny("known", search__start_with=["known.yaml"], search__trials=1)
    sweep = write(folder / "sweep.yaml", tree)
    kill = Kill("optuna:Study.enqueue_trial", "after")
    command = studies.Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill)
    assert command.wait().code == -9
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "known")
    assert_whole(left, trials=1)
    assert yaml.safe_load(left.candidates[0]) == candidate
    assert [trial.state for trial in left.optuna] == [TrialState.COMPLETE]
    # what is enqueued needs its file no more, wherever the folder is by then
    (folder / "known.yaml").unlink()
    moved = folder.rename(tmp_path / "moved") / "sweep.yaml"
    done = cli("run", moved, "--root", runs, "--trials", 2, cwd=tmp_path)
    assert done.code == 0, done
    assert_whole(read(runs, "known"), trials=2)


def test_draws_that_make_no_candidate_are_screened(tmp_path: Path, runs: Path) -> None:
    """Between the ends of two ranges lie pairs such as 35 and 48, which need 1680 channels."""
    tree = tiny("impossible", search__trials=3, search__sampler="random")
    tree["candidate"]["network"] = {
        "family": "densenet",
        "stem": {"width": 8, "stride": 4},
        "growth_rate": 4,
        "layers": [1],
        "bottleneck": 0,
        "groups": {"low": 32, "high": 64},
        "pointwise_groups": {"low": 32, "high": 64},
    }
    tree["objectives"]["score"]["at_most"] = 1000.0
    done = cli("run", write(tmp_path / "sweep.yaml", tree), "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "screened: no candidate: " in done.out
    assert_whole(read(runs, "impossible"), trials=3)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"network": {"growth_rate": 64}}, "network.growth_rate: found 64, expected 4 to 12"),
        ({"classes": 3}, "expected the dataset's"),
        ({"input": {"channels": 3}}, "expected the dataset's"),
    ],
    ids=["outside the space", "classes", "shape"],
)
def test_a_known_candidate_that_does_not_fit_is_refused(
    tmp_path: Path, runs: Path, finished: Path, change: dict, error: str
) -> None:
    earlier = finished / "studies/tiny/trials/0000/candidate.yaml"
    candidate = yaml.safe_load(earlier.read_text())
    for key, value in change.items():
        candidate[key] = candidate[key] | value if isinstance(value, dict) else value
    write(tmp_path / "known.yaml", candidate)
    sweep = write(tmp_path / "sweep.yaml", tiny("known", search__start_with=["known.yaml"]))
    found = cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert "known.yaml: " in found
    assert error in found
    assert not (runs / "studies").exists() or not list((runs / "studies").iterdir())


def test_a_failing_trial_is_counted_and_the_study_goes_on(tmp_path: Path, runs: Path) -> None:
    """A learning rate that diverges, in one of two branches."""
    tree = tiny("diverging", search__trials=6)
    rate = {"choices": [1e-2, 1e30]}
    tree["candidate"]["training"] |= {"optimizer": "sgd", "learning_rate": rate, "epochs": 2}
    done = cli("run", write(tmp_path / "sweep.yaml", tree), "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "diverging")
    assert_whole(left, trials=6)
    failed = {n: o for n, o in left.outcomes.items() if o.state == "failed"}
    assert 0 < len(failed) < 6
    for number, outcome in failed.items():
        assert outcome.accuracy is None
        assert outcome.reason is not None
        assert outcome.reason.startswith("DivergenceError: ")
        assert f"trial {number} failed: {outcome.reason}" in done.out
        assert (left.folder(number) / "traceback.txt").exists()
        assert left.optuna[number].params["training.learning_rate"] == 1e30
        assert left.optuna[number].state == TrialState.FAIL
    assert max(left.outcomes) > min(failed)


def test_an_rdb_for_optuna(tmp_path: Path, runs: Path) -> None:
    url = f"sqlite:///{tmp_path}/my optuna.db"
    sweep = write(tmp_path / "sweep.yaml", tiny("rdb", tracking={"optuna": url}))
    kill = Kill("micronet_search.study.ledger:Ledger._tell", "before", 2)
    done = studies.Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill).wait()
    assert done.code == -9
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    left = read(runs, "rdb", url)
    assert_whole(left, trials=3)
    assert not (runs / "studies/rdb/optuna.journal").exists()
    goals = load_sweep(left.root.study("rdb").sweep).objectives
    assert left.optuna[0].values == [
        left.outcomes[0].accuracy,
        score_of(left.outcomes[0], goals),
    ]


def test_a_study_begun_anew_under_its_name(tmp_path: Path, runs: Path) -> None:
    """The folder is removed, MLflow's record of it stays, and is not mixed with the new one's."""
    sweep = write(tmp_path / "sweep.yaml", tiny("anew", search__trials=1))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    shutil.rmtree(runs / "studies/anew")
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert sorted(studies.outcomes(runs, "anew")) == [0]
    with pytest.raises(ValueError, match="too many values"):
        read(runs, "anew")
