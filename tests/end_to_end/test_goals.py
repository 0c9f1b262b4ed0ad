"""Goals for the accuracy that are changed, asked for later, or relative to a baseline."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import Left, assert_whole, cli, interrupted, read, tiny, write

from micronet_search.config.files import load_stored_sweep
from micronet_search.store.paths import Root
from micronet_search.study.survey import is_feasible, survey, violations

BASELINE = {
    "network": {"family": "resnet", "stem": {"width": 8}, "widths": [8], "layers": [1]},
    "training": {"epochs": 3, "batch_size": 32, "learning_rate": 0.02},
}


def run(folder: Path, root: Path, tree: dict[str, Any]) -> Left:
    sweep = write(folder / "sweep.yaml", tree)
    done = cli("run", sweep, "--root", root, cwd=folder)
    assert done.code == 0, done
    return read(root, tree["name"])


def assert_judged_by_its_goal(left: Left) -> None:
    goals = load_stored_sweep(left.root.study(left.name).sweep).objectives
    front = survey(left.outcomes, goals).front
    for trial in left.optuna:
        if (outcome := left.outcomes.get(trial.number)) is None:
            continue
        assert trial.constraints == pytest.approx(violations(outcome, goals))
        tags = left.children[trial.number].tags
        assert tags["feasible"] == str(is_feasible(outcome, goals)).lower()
        assert tags["front"] == str(trial.number in front).lower()


def accuracies(left: Left) -> list[float]:
    return sorted(outcome.accuracy or 0.0 for outcome in left.outcomes.values())


def test_a_study_goes_on_with_another_goal(tmp_path: Path, runs: Path) -> None:
    tpe = {"search__sampler": {"name": "tpe"}}  # which goes by the constraints that Optuna keeps
    before = run(tmp_path, runs, tiny(search__trials=4, **tpe))
    assert_whole(before, trials=4)
    between = sum(accuracies(before)[1:3]) / 2
    goal = {"objectives__accuracy__at_least": between}
    after = run(tmp_path, runs, tiny(search__trials=6, **tpe, **goal))
    assert {n: after.outcomes[n] for n in before.outcomes} == before.outcomes
    assert_judged_by_its_goal(after)
    assert [trial.number for trial in after.optuna] == sorted(
        trial.number for trial in after.optuna
    )
    assert any(run.tags["feasible"] == "false" for run in after.children.values())
    lower = run(tmp_path, runs, tiny(search__trials=6, **tpe))
    assert_judged_by_its_goal(lower)


def test_a_database_keeps_the_goal_that_it_was_begun_with(tmp_path: Path, runs: Path) -> None:
    tracking = {"optuna": f"sqlite:///{tmp_path}/optuna.db"}
    sweep = write(tmp_path / "sweep.yaml", tiny(tracking=tracking, search__trials=1))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    write(sweep, tiny(tracking=tracking, objectives__accuracy__at_least=0.7))
    error = cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert error.startswith("found accuracy.at_least 0.7 beside trials that a database has judged")


def test_the_front_and_the_export_take_another_goal(tmp_path: Path, runs: Path) -> None:
    left = run(tmp_path, runs, tiny(search__trials=4))
    best = accuracies(left)[-1]
    options = ("--at-least", best, "--root", runs)
    rows = json.loads(cli("front", "tiny", "--format", "json", *options, cwd=tmp_path).out)
    assert {row["accuracy"] for row in rows} == {best}
    done = cli("export", "tiny", "--best", *options, cwd=tmp_path)
    assert done.code == 0, done
    assert (tmp_path / f"exports/tiny/{rows[0]['trial']:04d}/model.onnx").exists()
    nothing = cli("front", "tiny", "--at-least", 0.9999, "--root", runs, cwd=tmp_path).error
    assert "accuracy >= 0.9999" in nothing
    # the study keeps its own
    assert_whole(read(runs, "tiny"), trials=4)


def relative(below: float = 0.05, of: Any = BASELINE, **changes: Any) -> dict[str, Any]:
    tree = tiny("relative", **changes)
    tree["objectives"]["accuracy"] = {"at_most_below": below, "of": of}
    return tree


def test_a_baseline_is_trained_first_and_once(tmp_path: Path, runs: Path) -> None:
    left = run(tmp_path, runs, relative())
    (baseline,) = (runs / "teachers").iterdir()
    accuracy = json.loads((baseline / "outcome.json").read_text())["accuracy"]
    stored = yaml.safe_load((runs / "studies/relative/sweep.yaml").read_text())
    assert stored["objectives"]["accuracy"]["at_least"] == pytest.approx(accuracy - 0.05)
    assert_whole(left, trials=3)
    again = run(tmp_path, runs, relative(search__trials=4))
    assert_whole(again, trials=4)
    assert (baseline / "outcome.json").stat().st_mtime < min(
        outcome.started for outcome in left.outcomes.values()
    )


def test_a_pause_in_the_baseline_continues_it(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", relative())
    run_it = ("run", sweep, "--root", runs)
    done = interrupted(
        *run_it, cwd=tmp_path, at="micronet_search.trial.trial:Trial.advance", call=2
    )
    assert done.code == 130, done
    assert "the baseline paused after epoch" in done.out
    assert_whole(run(tmp_path, runs, relative()), trials=3)


def test_a_trial_of_another_study_is_a_baseline(tmp_path: Path, runs: Path) -> None:
    first = run(tmp_path, runs, tiny(search__trials=1))
    run(tmp_path, runs, relative(0.05, {"study": "tiny", "trial": 0}))
    goals = load_stored_sweep(Root(runs).study("relative").sweep).objectives
    assert goals.accuracy.at_least == pytest.approx((first.outcomes[0].accuracy or 0) - 0.05)


def test_a_baseline_is_complete_and_judged_by_the_same_images(tmp_path: Path, runs: Path) -> None:
    run(tmp_path, runs, tiny(search__trials=1))

    def refusal(trial: int, **changes: Any) -> str:
        tree = relative(0.05, {"study": "tiny", "trial": trial}, **changes)
        sweep = write(tmp_path / "sweep.yaml", tree)
        return cli("run", sweep, "--root", runs, cwd=tmp_path).error

    other = refusal(0, dataset__validation=90)
    assert "found that the study tiny has other validation images" in other
    assert "found nothing in" in refusal(1)
    outcome = runs / "studies/tiny/trials/0000/outcome.json"
    outcome.write_text(outcome.read_text().replace('"complete"', '"stopped"'))
    assert "found a stopped trial" in refusal(0)


@pytest.mark.parametrize(
    ("goal", "message"),
    [
        ({}, "found neither, expected at_least, or at_most_below and of"),
        ({"at_most_below": 0.1}, "found at_most_below, expected at_least, or"),
        ({"at_least": 0.5, "of": BASELINE}, "found at_least and of, expected at_least, or"),
        (
            {"at_most_below": 0.1, "of": {"study": "none", "trial": 0}},
            "objectives.accuracy.of: no study none",
        ),
    ],
)
def test_goals_that_cannot_be(
    tmp_path: Path, runs: Path, goal: dict[str, Any], message: str
) -> None:
    tree = relative()
    tree["objectives"]["accuracy"] = goal
    sweep = write(tmp_path / "sweep.yaml", tree)
    assert message in cli("run", sweep, "--root", runs, cwd=tmp_path).error
    assert not (runs / "studies/relative/trials").exists()
