"""A front that is confirmed: trained again with other seeds, tested, and shipped."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
from studies import Command, Kill, cli, interrupted, read, tiny, write

from micronet_search.report.view import View
from micronet_search.report.view import read as read_view
from micronet_search.store.outcome import Outcome, read_repeats
from micronet_search.store.paths import Repeat, Root


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    """A root with the study `tiny`. Not to be written to."""
    folder = tmp_path_factory.mktemp("confirm")
    shutil.copy(database, folder / "mlflow.db")
    goal = {"objectives__accuracy__at_least": 0.11}  # about what chance reaches
    sweep = write(folder / "tiny.yaml", tiny(search__trials=4, **goal))
    assert cli("run", sweep, "--root", folder, cwd=folder).code == 0
    return folder


@pytest.fixture
def root(tmp_path: Path, begun: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "runs"))


def repeats(root: Path) -> dict[Repeat, Outcome]:
    return read_repeats(Root(root).study("tiny"), "imt")


def view(root: Path) -> View:
    return read_view(Root(root), "tiny")


def without_times(outcome: Outcome) -> tuple[Any, ...]:
    losses = tuple((row.stage, row.loss, row.accuracy) for row in outcome.curve)
    return outcome.state, outcome.accuracy, outcome.test_accuracy, outcome.scores, losses


def test_the_front_is_confirmed_recorded_and_shipped(tmp_path: Path, root: Path) -> None:
    confirm = ("confirm", "tiny", "--top", 2, "--seeds", 2, "--root", root)
    done = cli(*confirm, cwd=tmp_path)
    assert done.code == 0, done
    found = repeats(root)
    trials = sorted({repeat.trial for repeat in found})
    assert sorted(found) == [Repeat(trial, seed) for trial in trials for seed in (1, 2)]
    assert len(trials) == 2
    one, other, *_ = found.values()
    assert one.curve[0].loss != other.curve[0].loss
    assert not list(root.rglob("checkpoint.safetensors"))

    # a second time, nothing is trained; a third seed adds one of each
    assert cli(*confirm, cwd=tmp_path).code == 0
    assert repeats(root) == found
    assert cli(*confirm[:4], "--seeds", 3, "--root", root, cwd=tmp_path).code == 0
    assert len(repeats(root)) == 6
    assert found.items() < repeats(root).items()

    left = read(root, "tiny")
    runs = {run.tags["confirms"]: run for run in left.repeats.values()}
    assert sorted(map(int, runs)) == trials
    assert sorted(left.repeats) == [f"{trial:04d}-{seed}" for trial in trials for seed in (1, 2, 3)]
    for name, run in left.repeats.items():
        trial, seed = map(int, name.split("-"))
        outcome = repeats(root)[Repeat(trial, seed)]
        assert run.tags["confirm"] == "true"
        assert run.metrics["test_accuracy"] == {0: outcome.test_accuracy}
        assert (run.artifacts / "model.safetensors").exists()
    for trial in trials:
        tests = [one.test_accuracy for repeat, one in repeats(root).items() if repeat[0] == trial]
        means = left.children[trial].metrics["test_accuracy"]
        assert sorted(means) == [1, 2, 3]
        assert means[3] == pytest.approx(sum(map(float, tests)) / 3)
        is_confirmed = view(root).confirmations[trial].reaches(0.11)
        assert left.children[trial].tags["confirmed"] == str(is_confirmed).lower()

    rows = json.loads(cli("front", "tiny", "--format", "json", "--root", root, cwd=tmp_path).out)
    assert any(row.get("confirmed") for row in rows)
    assert "95 % interval" in cli("front", "tiny", "--root", root, cwd=tmp_path).out
    shipped = cli("export", "tiny", "--best", "--register", "--root", root, cwd=tmp_path)
    assert shipped.code == 0, shipped
    assert shipped.out.endswith("registered as tiny, version 1, champion\n")
    best = view(root).confirmed()[0]["trial"]
    assert f"**Trial {best} won: " in read(root, "tiny").parent.tags["mlflow.note.content"]
    median = Repeat(best, view(root).confirmations[best].median_seed)
    model = tmp_path / f"exports/tiny/{best:04d}/model.safetensors"
    assert model.read_bytes() == Root(root).study("tiny").repeat(median).model.read_bytes()
    assert f"{repeats(root)[median].test_accuracy:.2%}" in shipped.out


def test_full_training_sees_the_validation_images_too(tmp_path: Path, root: Path) -> None:
    confirm = ("confirm", "tiny", "--top", 1, "--seeds", 1, "--root", root)
    assert cli(*confirm, cwd=tmp_path).code == 0
    assert cli(*confirm, "--full-train", cwd=tmp_path).code == 0
    part, full = repeats(root).items()
    assert full[0] == part[0]._replace(full_train=True)
    assert full[1].curve[0].loss != part[1].curve[0].loss
    assert [one.full_train for one in view(root).confirmations.values()] == [True]


def test_a_pause_changes_nothing(tmp_path: Path, begun: Path, root: Path) -> None:
    whole = Path(shutil.copytree(begun, tmp_path / "whole"))
    options = ("--top", 1, "--seeds", 2, "--root")
    assert cli("confirm", "tiny", *options, whole, cwd=tmp_path).code == 0
    confirm = ("confirm", "tiny", *options, root)
    done = interrupted(
        *confirm, cwd=tmp_path, at="micronet_search.trial.trial:Trial.advance", call=7
    )
    assert done.code == 130, done
    assert "with seed 2 paused after epoch" in done.out
    assert len(repeats(root)) == 1
    assert cli("confirm", "tiny", *options, root, cwd=tmp_path).code == 0
    found = {repeat: without_times(one) for repeat, one in repeats(root).items()}
    assert found == {repeat: without_times(one) for repeat, one in repeats(whole).items()}


def test_kills_between_any_two_steps_lose_nothing(tmp_path: Path, root: Path) -> None:
    confirm = ("confirm", "tiny", "--top", 2, "--seeds", 2, "--root", root)
    outcome, recorder = (
        "micronet_search.store.outcome:",
        "micronet_search.tracking.recorder:Recorder.",
    )
    points = [
        Kill("micronet_search.study.driver:write_bytes", "after"),
        Kill(outcome + "write_json", "before"),
        Kill(outcome + "write_json", "after"),
        Kill(recorder + "record_repeat", "before"),
        Kill("micronet_search.tracking.recorder:log", "before", 2),
        Kill(recorder + "record_more", "before"),
        Kill(recorder + "record_more", "after"),
    ]
    died = 0
    for kill in points:
        done = Command(*confirm, cwd=tmp_path, kill=kill).wait()
        assert done.code in (0, -signal.SIGKILL), (kill, done)
        died += done.code != 0
    assert died >= len(points) - 1
    assert cli(*confirm, cwd=tmp_path).code == 0
    left = read(root, "tiny")
    assert {run.status for run in left.repeats.values()} == {"FINISHED"}
    assert len(left.repeats) == len(repeats(root)) == 4
    for trial in {repeat.trial for repeat in repeats(root)}:
        assert left.children[trial].metrics["test/seeds"][2] == 2.0


def test_what_cannot_be_confirmed_is_refused(tmp_path: Path, root: Path) -> None:
    assert "no study other" in cli("confirm", "other", "--root", root, cwd=tmp_path).error
    sweep = root / "studies/tiny/sweep.yaml"
    sweep.write_text(sweep.read_text().replace("at_least: 0.11", "at_least: 0.9999"))
    found = cli("confirm", "tiny", "--root", root, cwd=tmp_path).error
    assert found.startswith("found no trial of tiny that reaches its goals")
    assert not (root / "studies/tiny/repeats").exists()
