from pathlib import Path

import pytest

from micronet_search.store.paths import Root


def test_every_path_is_where_the_design_puts_it(tmp_path: Path) -> None:
    root = Root(tmp_path)
    study = root.study("cifar10-densenet")
    trial = study.trial(12)

    found = [root.mlflow_db, root.artifacts, study.sweep, study.journal, study.lock, study.clock]
    assert [str(path.relative_to(tmp_path)) for path in found] == [
        "mlflow.db",
        "artifacts",
        "studies/cifar10-densenet/sweep.yaml",
        "studies/cifar10-densenet/optuna.journal",
        "studies/cifar10-densenet/driver.lock",
        "studies/cifar10-densenet/clock.json",
    ]
    files = [trial.candidate, trial.checkpoint, trial.model, trial.layers, trial.curve]
    assert [str(path.relative_to(study.path)) for path in [*files, trial.outcome]] == [
        "trials/0012/candidate.yaml",
        "trials/0012/checkpoint.safetensors",
        "trials/0012/model.safetensors",
        "trials/0012/layers.csv",
        "trials/0012/curve.csv",
        "trials/0012/outcome.json",
    ]


@pytest.mark.parametrize(
    "name",
    [
        *("..", ".", "", "../other", "a/b", "a\\b", "/etc", ".hidden", "a\n", "a\0b", "x" * 101),
        *("a\u2044b", "a\uff0fb", "\u2024\u2024", "a b", "-a", "~", "a/../..", "C:x"),
    ],
)
def test_a_name_cannot_leave_the_root(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="no name of a study, expected at most 100 letters"):
        Root(tmp_path).study(name)


@pytest.mark.parametrize("name", ["a", "0", "forest-2023", "a.b_c-D", "a..b", "x" * 100])
def test_a_good_name_stays_inside_the_root(tmp_path: Path, name: str) -> None:
    assert Root(tmp_path).study(name).path.parent == tmp_path / "studies"


def test_trials_are_listed_by_number(tmp_path: Path) -> None:
    study = Root(tmp_path).study("a")
    assert study.trials() == []
    for number in (10000, 12, 0, 9999):
        study.trial(number).path.mkdir(parents=True)
    for stray in ("12", "notes", "00012", "٠٠١٢"):
        (study.path / "trials" / stray).mkdir()
    (study.path / "trials" / "0013").write_text("a file")

    assert study.trials() == [0, 12, 9999, 10000]


def test_studies_are_those_that_were_started(tmp_path: Path) -> None:
    root = Root(tmp_path)
    assert root.studies() == []
    for name in ("b", "a"):
        root.study(name).path.mkdir(parents=True)
        root.study(name).sweep.touch()
    root.study("empty").path.mkdir()
    (tmp_path / "studies" / ".hidden").mkdir()

    assert root.studies() == ["a", "b"]
