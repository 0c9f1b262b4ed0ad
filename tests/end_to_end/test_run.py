"""A study from its sweep to its total, and again."""

import shutil
from pathlib import Path

import studies
from conftest import new_root
from studies import assert_same, assert_whole, cli, read, tiny, write


def test_a_study_runs_to_its_total(finished: Path) -> None:
    left = read(finished, "tiny")
    assert_whole(left, trials=3)
    tags = left.parent.tags
    assert {"python", "torch", "optuna", "mlflow", "device"} <= tags.keys()
    assert tags["device"] == "cpu"
    for number, outcome in left.outcomes.items():
        tags = left.children[number].tags
        figures = f"{outcome.accuracy:.1%}  {outcome.scores['imt']['score']:.3g}"
        assert tags["mlflow.runName"] == f"#{number}  {figures}"
        note = tags["mlflow.note.content"]
        assert note.startswith("front: ") == (tags["front"] == "true")
        assert f"{outcome.accuracy:.1%}, " in note
        assert note.endswith("% sparse, DenseNet")


def test_running_it_again_changes_nothing_and_a_greater_total_goes_on(
    tmp_path: Path, runs: Path
) -> None:
    sweep = write(tmp_path / "tiny.yaml", tiny())
    assert cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path).code == 0
    assert_whole(read(runs, "tiny"), trials=2)
    before = studies.snapshot(runs)
    done = cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path)
    assert done.code == 0
    assert studies.snapshot(runs) == before

    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0
    assert "trial 2 complete" in done.out
    left = read(runs, "tiny")
    assert_whole(left, trials=3)
    kept = {name for name in before["files"] if name.startswith("studies/tiny/trials/")}
    after = studies.snapshot(runs)["files"]
    assert {name: after[name] for name in kept} == {n: before["files"][n] for n in kept}

    # a smaller total leaves what there is
    assert cli("run", sweep, "--root", runs, "--trials", 1, cwd=tmp_path).code == 0
    assert len(read(runs, "tiny").outcomes) == 3


def test_two_runs_with_one_seed_give_the_same_trials(
    tmp_path: Path, runs: Path, database: Path
) -> None:
    """Candidate by candidate and epoch by epoch, screened draws and stopped trials included."""
    tree = tiny(
        "twice",
        search__trials=8,
        search__sampler={"name": "tpe", "startup_trials": 3},
        search__early_stopping={"rule": "asha", "first_rung": 1, "reduction": 2},
        objectives__score__at_most=3e-4,
    )
    sweep = write(tmp_path / "sweep.yaml", tree)
    (tmp_path / "other").mkdir()
    found = []
    for root in (runs, new_root(tmp_path / "other", database)):
        done = cli("run", sweep, "--root", root, cwd=tmp_path)
        assert done.code == 0, done
        found.append(read(root, "twice"))
    assert_same(*found)
    drawn = [[(t.params, t.user_attrs) for t in left.optuna] for left in found]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) > 8


def test_trials_whose_folder_is_removed_are_made_up_for(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "tiny.yaml", tiny())
    assert cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path).code == 0
    shutil.rmtree(runs / "studies/tiny/trials/0001")
    done = cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path)
    assert done.code == 0
    assert sorted(studies.outcomes(runs, "tiny")) == [0, 2]
    assert cli("front", "tiny", "--root", runs, cwd=tmp_path).code == 0
