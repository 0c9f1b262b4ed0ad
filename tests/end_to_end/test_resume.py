"""What a next start finds: another folder, other images, another owner; what a kill costs.

`MICRONET_KILLS` says how many kills there are in a long fit, each at another seeded moment.
"""

import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import studies
from PIL import Image
from sklearn.datasets import load_digits
from studies import Command, Kill, assert_whole, cli, read, tiny, write

KILLS = int(os.environ.get("MICRONET_KILLS", "1"))
EPOCHS = 60


def curve(path: Path) -> list[Any]:
    state = studies.checkpoint.unflatten(*studies.checkpoint.unpack(path.read_bytes()))
    return list(state["curve"])


def long_fit(name: str, **execution: Any) -> dict[str, Any]:
    tree = tiny(name, search__trials=1, candidate__training__epochs=EPOCHS, execution=execution)
    tree["candidate"]["network"] |= {"stem": {"width": 4}, "growth_rate": 4, "layers": [1, 1]}
    return tree


@pytest.mark.parametrize("seed", range(KILLS))
def test_a_kill_in_a_long_fit_costs_no_more_than_the_sweep_says(
    tmp_path: Path, runs: Path, seed: int
) -> None:
    """No epoch lasts as short a time as is allowed here, so each is followed by a checkpoint."""
    sweep = write(tmp_path / "sweep.yaml", long_fit("long", checkpoint_minutes=1e-6))
    epoch = random.Random(seed).randrange(2, EPOCHS)
    kill = Kill("micronet_search.trial.trial:Trial.advance", "after", epoch)
    command = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill)
    assert command.wait().code == -signal.SIGKILL
    saved = curve(runs / "studies/long/trials/0000/checkpoint.safetensors")
    assert len(saved) == epoch - 1  # the epoch of the kill is lost
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    left = read(runs, "long")
    assert_whole(left, trials=1)
    assert [vars(row) for row in left.outcomes[0].curve[: epoch - 1]] == saved


def test_sigterm_pauses_like_ctrl_c(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", long_fit("terminated", checkpoint_minutes=1e-6))
    checkpoint = runs / "studies/terminated/trials/0000/checkpoint.safetensors"
    kill = studies.Signal("micronet_search.trial.trial:Trial.advance", signal.SIGTERM, 3)
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill).wait()
    assert done.code == 130, done
    assert done.err == ""
    assert "pausing after this epoch" in done.out
    assert "trial 0 paused after epoch 3" in done.out
    assert len(curve(checkpoint)) == 3
    assert read(runs, "terminated").parent.status == "SCHEDULED"


def test_a_second_sigterm_leaves_at_once(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", long_fit("twice"))
    kill = studies.Signal("micronet_search.trial.trial:Trial.advance", signal.SIGTERM, 3, times=2)
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill).wait()
    assert done.code == 130, done
    assert done.err.startswith("left at once")
    assert "Traceback" not in done.err
    assert not (runs / "studies/twice/trials/0000/checkpoint.safetensors").exists()


def folders(root: Path) -> None:
    """Digits 0 to 2 as PNG files in class folders, 24 and 6 of each."""
    digits = load_digits()
    for name in (0, 1, 2):
        rows = (digits.target == name).nonzero()[0][:30]
        for place, chosen in (("train", rows[:24]), ("test", rows[24:])):
            folder = root / place / f"digit{name}"
            folder.mkdir(parents=True)
            for row in chosen:
                pixels = (digits.images[row] * 255 / 16).round().astype("uint8")
                Image.fromarray(pixels).save(folder / f"{row:04d}.png")


def pictured(root: Path, trials: int = 1, **changes: Any) -> dict[str, Any]:
    dataset = {"name": "folder", "root": str(root), "validation": 12}
    tree = tiny("pictures", dataset=dataset, search__trials=trials, **changes)
    tree["candidate"]["training"] |= {"batch_size": 16, "epochs": 1}
    return tree


def test_what_changes_no_trial_may_change(tmp_path: Path, runs: Path) -> None:
    """The dataset's folder was moved, MLflow's database is another one, checkpoints are kept."""
    folders(tmp_path / "here")
    sweep = write(tmp_path / "sweep.yaml", pictured(tmp_path / "here"))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    (tmp_path / "here").rename(tmp_path / "there")
    shutil.copy(runs / "mlflow.db", tmp_path / "copy.db")
    moved = pictured(
        tmp_path / "there",
        trials=2,
        search__early_stopping={"rule": "off", "keep_hours": 3.0},
        tracking={"mlflow": f"sqlite:///{tmp_path}/copy.db"},
    )
    done = cli("run", write(sweep, moved), "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    assert "pictures: 2 of 2 trials" in done.out
    other = pictured(tmp_path / "there", trials=3, search__seed=4)
    done = cli("run", write(sweep, other), "--root", runs, cwd=tmp_path)
    assert done.code == 2
    assert "differs from the one" in done.err
    assert "here" not in done.err


def test_images_that_have_changed_are_noticed(tmp_path: Path, runs: Path) -> None:
    folders(tmp_path / "images")
    train, test = tmp_path / "images/train", tmp_path / "images/test"
    sweep = write(tmp_path / "sweep.yaml", pictured(tmp_path / "images"))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0

    def refusal() -> str:
        return cli("run", sweep, "--root", runs, "--trials", 2, cwd=tmp_path).error

    removed = sorted((train / "digit1").iterdir())[:3]
    for path in removed:
        path.rename(tmp_path / path.name)
    assert "class 1 has 17 in place of 20" in refusal()
    for path in removed:
        (tmp_path / path.name).rename(path)
    for part in (train, test):  # two classes take each other's names
        (part / "digit0").rename(part / "other")
        (part / "digit2").rename(part / "digit0")
        (part / "other").rename(part / "digit2")
    assert "other train images or labels than when the study began (as many" in refusal()
    assert len(read(runs, "pictures").outcomes) == 1


def test_two_roots_share_a_database_and_no_study(tmp_path: Path, runs: Path) -> None:
    url = f"sqlite:///{tmp_path}/optuna.db"
    tree = tiny("shared", search__trials=1, tracking={"optuna": url})
    sweep = write(tmp_path / "sweep.yaml", tree)
    killed = Kill("micronet_search.trial.trial:Trial.advance", "after", 2)
    command = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=killed)
    assert command.wait().code == -signal.SIGKILL
    other = tmp_path / "other"
    other.mkdir()
    error = cli("run", sweep, "--root", other, cwd=tmp_path).error
    assert "tracking.optuna: found the study shared of" in error
    assert str(runs) in error
    assert not (other / "studies/shared").exists()
    # the owner goes on, wherever its root lies by now
    moved = runs.rename(tmp_path / "moved")
    assert cli("run", sweep, "--root", moved, cwd=tmp_path).code == 0
    assert len(studies.optuna_trials(moved, "shared", url)) == 1
