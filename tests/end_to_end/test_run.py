"""A study from its sweep to its total, and again."""

import shutil
from pathlib import Path

import studies
from studies import assert_whole, cli, read, tiny, write


def test_a_study_runs_to_its_total(finished: Path) -> None:
    left = read(finished, "tiny")
    assert_whole(left, trials=3)
    tags = left.parent.tags
    assert {"python", "torch", "optuna", "mlflow", "device"} <= tags.keys()
    assert tags["device"] == "cpu"
    assert {run.tags["mlflow.runName"] for run in left.children.values()} == {
        "trial 0000",
        "trial 0001",
        "trial 0002",
    }


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


def test_trials_whose_folder_is_removed_are_made_up_for(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "tiny.yaml", tiny())
    assert cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path).code == 0
    shutil.rmtree(runs / "studies/tiny/trials/0001")
    done = cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path)
    assert done.code == 0
    assert sorted(studies.outcomes(runs, "tiny")) == [0, 2]
    assert cli("front", "tiny", "--root", runs, cwd=tmp_path).code == 0
