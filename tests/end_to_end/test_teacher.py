"""Students of a teacher: it is trained once, survives a break, and is shared."""

import signal
from pathlib import Path
from typing import Any

import pytest
from conftest import new_root
from studies import Command, Fault, Hold, Kill, assert_whole, cli, interrupted, read, tiny, write

from micronet_search.config import distributions
from micronet_search.config.files import load_sweep, read_candidate
from micronet_search.config.sweep import SHAPES
from micronet_search.data.splits import Fingerprint
from micronet_search.store.paths import Root
from micronet_search.study import soft_targets, teachers

NETWORK = {"family": "resnet", "stem": {"width": 8}, "widths": [8, 12], "layers": 1}
OFTEN = {"checkpoint_minutes": 1e-6}
"""A checkpoint after every epoch."""


def taught(
    name: str, teacher: dict[str, Any], cached: bool = False, **changes: Any
) -> dict[str, Any]:
    distillation = {"teacher": teacher, "temperature": {"low": 1.0, "high": 8.0}, "weight": 0.5}
    distillation["cached"] = cached
    return tiny(name, candidate__distillation=distillation, search__trials=2, **changes)


def fitted(epochs: int = 3) -> dict[str, Any]:
    return {"network": NETWORK, "training": {"epochs": epochs, "learning_rate": 0.01}}


def run(folder: Path, root: Path, tree: dict[str, Any]) -> str:
    done = cli("run", write(folder / f"{tree['name']}.yaml", tree), "--root", root, cwd=folder)
    assert done.code == 0, done
    return done.out


def test_two_studies_share_a_teacher(tmp_path: Path, runs: Path) -> None:
    first = run(tmp_path, runs, taught("first", fitted()))
    assert first.count("waits for its teacher") == 1
    (folder,) = (runs / "teachers").iterdir()
    assert {path.name for path in folder.iterdir()} == {
        "candidate.yaml",
        "curve.csv",
        "fitted.safetensors",
        "layers.csv",
        "model.safetensors",
        "outcome.json",
    }
    trained = (folder / "model.safetensors").stat().st_mtime_ns

    second = run(tmp_path, runs, taught("second", fitted(), search__seed=7))
    assert "waits for its teacher" not in second
    assert (folder / "model.safetensors").stat().st_mtime_ns == trained
    assert len(list((runs / "teachers").iterdir())) == 1

    other_images = {"name": "digits", "validation": 100, "limit": 200}
    run(tmp_path, runs, taught("third", fitted(), dataset=other_images))
    assert len(list((runs / "teachers").iterdir())) == 2
    for name in ("first", "second", "third"):
        left = read(runs, name)
        assert_whole(left, trials=2)
        assert sorted(left.outcomes) == [0, 1]  # the teacher is none of the trials


def test_a_teacher_goes_on_after_a_break(tmp_path: Path, runs: Path, database: Path) -> None:
    unbroken = tmp_path / "unbroken"
    unbroken.mkdir()
    tree = taught("broken", fitted(12), execution=OFTEN)
    whole = new_root(unbroken, database)
    run(unbroken, whole, tree)
    sweep = write(tmp_path / "sweep.yaml", tree)
    reached = "micronet_search.study.driver:Driver._handle"
    killed = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=Kill(reached, "after", 10))
    assert killed.wait().code == -signal.SIGKILL
    (folder,) = (runs / "teachers").iterdir()
    assert (folder / "checkpoint.safetensors").exists()
    assert not (folder / "model.safetensors").exists()

    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    (expected,) = (whole / "teachers").iterdir()
    assert folder.name == expected.name
    assert (folder / "model.safetensors").read_bytes() == (
        expected / "model.safetensors"
    ).read_bytes()
    left, other = read(runs, "broken"), read(whole, "broken")
    assert_whole(left, trials=2)
    # what is drawn after a break is another draw, what was begun before it is the same
    assert left.outcomes[0].accuracy == other.outcomes[0].accuracy


def test_ctrl_c_pauses_the_teacher(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", taught("paused", fitted(30), execution=OFTEN))
    hold = Hold("micronet_search.trial.trial:Trial.advance", 5, tmp_path / "go")
    command = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=hold)
    assert command.until(lambda: any((runs / "teachers").glob("*/checkpoint.safetensors")))
    command.send(signal.SIGINT)
    (tmp_path / "go").touch()
    done = command.wait()
    assert done.code == 130, done
    assert "teacher" in done.out
    assert "paused after epoch" in done.out
    assert not any((runs / "teachers").glob("*/model.safetensors"))


def test_a_trial_of_another_study_is_a_teacher(tmp_path: Path, runs: Path) -> None:
    run(tmp_path, runs, tiny("school", search__trials=1))
    run(tmp_path, runs, taught("students", {"study": "school", "trial": 0}))
    assert not (runs / "teachers").exists()
    left = read(runs, "students")
    assert_whole(left, trials=2)
    text = (left.folder(0) / "candidate.yaml").read_text()
    assert "study: school" in text


def test_a_teacher_that_is_not_there_is_told(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", taught("orphans", {"study": "nobody", "trial": 3}))
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert "trial 3 of the study nobody" in done.error
    assert "expected a complete trial" in done.error
    assert not (runs / "studies/orphans").exists()


def test_a_teacher_that_saw_other_images_is_told(tmp_path: Path, runs: Path) -> None:
    run(tmp_path, runs, tiny("school", search__trials=1))
    teacher = {"study": {"choices": ["school", "nobody"]}, "trial": {"choices": [3, 0]}}
    sweep = load_sweep(write(tmp_path / "pairs.yaml", taught("pairs", teacher)))
    with pytest.raises(ValueError, match="trial 3 of the study school: found no"):
        teachers.check(sweep, Root(runs))

    others = {"name": "digits", "validation": 120, "limit": 300}
    sweep = write(
        tmp_path / "s.yaml", taught("others", {"study": "school", "trial": 0}, dataset=others)
    )
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert "trial 0 of the study school: found that it was trained on" in done.error


def test_a_teacher_that_diverges_ends_the_study(tmp_path: Path, runs: Path) -> None:
    wild = fitted()
    wild["training"] = wild["training"] | {"learning_rate": 1e30, "optimizer": "sgd"}
    sweep = write(tmp_path / "sweep.yaml", taught("wild", wild))
    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert "the teacher" in done.error
    assert "failed" in done.error
    (folder,) = (runs / "teachers").iterdir()
    assert "DivergenceError" in (folder / "traceback.txt").read_text()
    assert not (folder / "model.safetensors").exists()
    assert not (runs / "studies/wild/trials/0000/outcome.json").exists()  # it still waits


def test_a_teacher_that_is_searched_and_diverges_fails_its_students(
    tmp_path: Path, runs: Path
) -> None:
    wild = fitted()
    rates = {"choices": [0.01, 1e30]}
    wild["training"] = wild["training"] | {"learning_rate": rates, "optimizer": "sgd"}
    out = run(
        tmp_path,
        runs,
        taught("some-wild", wild, search__seed=1)
        | {"search": {"trials": 5, "sampler": {"name": "random"}, "seed": 1}},
    )
    left = read(runs, "some-wild")
    assert_whole(left, trials=5)
    failed = [o.reason for o in left.outcomes.values() if o.state == "failed"]
    assert 0 < len(failed) < 5, out
    assert all("its teacher" in reason or "the teacher" in reason for reason in failed)
    assert len(list((runs / "teachers").glob("*/model.safetensors"))) == 1
    assert len(list((runs / "teachers").glob("*/traceback.txt"))) == 1


WILD = {
    "network": NETWORK,
    "training": {"epochs": 3, "learning_rate": 1e30, "optimizer": "sgd"},
}


def test_a_teacher_that_fails_is_trained_once(tmp_path: Path, runs: Path) -> None:
    """Whatever the number of its students and of starts; those without a teacher go on."""
    tree = taught("one-of", WILD, search__seed=2)
    tree["search"]["trials"] = 6
    tree["candidate"]["distillation"] = {
        "one_of": {"none": None, "taught": tree["candidate"]["distillation"]}
    }
    out = run(tmp_path, runs, tree)
    left = read(runs, "one-of")
    assert_whole(left, trials=6)
    taught_trials = [t.number for t in left.optuna if "taught" in t.params.values()]
    assert len(taught_trials) > 1
    for number, outcome in left.outcomes.items():
        assert outcome.state == ("failed" if number in taught_trials else "complete")
        assert number not in taught_trials or "DivergenceError" in (outcome.reason or "")
    assert out.count(": failed") == 1
    tree["search"]["trials"] = 12
    assert ": failed" not in run(tmp_path, runs, tree)


def test_a_student_that_waits_is_trained_before_an_exhausted_study_ends(
    tmp_path: Path, runs: Path
) -> None:
    """One candidate in all: a second slot finds nothing but duplicates of the student."""
    pytest.importorskip("ray")
    tree = taught("waits", fitted(), execution={"engine": "ray", "trials_per_device": 2})
    candidate = tree["candidate"]
    candidate["network"] = NETWORK
    candidate["training"] = {"epochs": 1, "learning_rate": 0.01}
    candidate["distillation"]["temperature"] = 2.0
    candidate["pruning"] = candidate["quantization"] = None
    out = run(tmp_path, runs, tree)
    assert "waits: 1 of 2 trials" in out
    left = read(runs, "waits")
    assert_whole(left, trials=1)
    assert left.outcomes[0].state == "complete"


def test_a_student_whose_teacher_was_removed_fails_alone(tmp_path: Path, runs: Path) -> None:
    run(tmp_path, runs, tiny("school", search__trials=1))
    tree = taught("students", {"study": "school", "trial": 0})
    loaded = load_sweep(write(tmp_path / "students.yaml", tree))
    found = teachers.Teachers(Root(runs), Fingerprint("digest", (20,) * 10), loaded)
    drawn = distributions.draw(loaded.space, distributions.pick_from({})).tree
    student = read_candidate(drawn, SHAPES["digits"], 10)
    assert found.failure(student) is None
    Root(runs).study("school").trial(0).model.unlink()
    assert "found no" in str(found.failure(student))


def test_cached_soft_targets_are_made_once_for_all_studies(tmp_path: Path, runs: Path) -> None:
    """Of a teacher that a study without them has trained, too, and again when they are damaged."""
    run(tmp_path, runs, taught("along", fitted()))
    (folder,) = (runs / "teachers").iterdir()
    model, views = folder / "model.safetensors", folder / "views.safetensors"
    trained = model.stat().st_mtime_ns
    assert not views.exists()

    first = run(tmp_path, runs, taught("first", fitted(), cached=True))
    assert first.count("waits for its soft targets to be made") == 1
    assert first.count(f"teacher {folder.name}: its soft targets are made") == 1
    assert "waits for its teacher" not in first
    assert not (folder / "checkpoint.safetensors").exists()
    content, made = views.read_bytes(), views.stat().st_mtime_ns

    second = run(tmp_path, runs, taught("second", fitted(), cached=True, search__seed=7))
    assert "waits" not in second
    assert views.stat().st_mtime_ns == made

    views.write_bytes(content[:-1])
    third = run(tmp_path, runs, taught("third", fitted(), cached=True, search__seed=8))
    assert third.count("waits for its soft targets to be made") == 1
    assert views.read_bytes() == content
    assert model.stat().st_mtime_ns == trained
    for name in ("first", "second", "third"):
        assert_whole(read(runs, name), trials=2)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    """A root with a study and its soft targets, made without a break. Not to be written to."""
    root = new_root(tmp_path_factory.mktemp("unbroken"), database)
    run(root.parent, root, taught("broken", fitted(), cached=True, execution=OFTEN))
    return root


@pytest.mark.parametrize(
    ("function", "call", "are_made"),
    [
        pytest.param("micronet_search.trial.views:Viewing._see", 30, False, id="while-made"),
        # the teacher's three epochs come first
        pytest.param("micronet_search.trial.trial:Trial._train", 5, True, id="while-used"),
    ],
)
def test_soft_targets_go_on_after_a_break(
    tmp_path: Path, runs: Path, unbroken: Path, function: str, call: int, are_made: bool
) -> None:
    (expected,) = (unbroken / "teachers").iterdir()
    tree = taught("broken", fitted(), cached=True, execution=OFTEN)
    sweep = write(tmp_path / "sweep.yaml", tree)
    kill = Kill(function, "after", call)
    killed = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=kill)
    assert killed.wait().code == -signal.SIGKILL
    (folder,) = (runs / "teachers").iterdir()
    assert (folder / "views.safetensors").exists() == are_made

    done = cli("run", sweep, "--root", runs, cwd=tmp_path)
    assert done.code == 0, done
    for name in ("model.safetensors", "views.safetensors"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes()
    left, other = read(runs, "broken"), read(unbroken, "broken")
    assert_whole(left, trials=2)
    assert left.outcomes[0].accuracy == other.outcomes[0].accuracy
    file = "model.safetensors"
    assert (left.folder(0) / file).read_bytes() == (other.folder(0) / file).read_bytes()


def test_ctrl_c_pauses_the_job_of_soft_targets(tmp_path: Path, runs: Path) -> None:
    sweep = write(tmp_path / "sweep.yaml", taught("paused", fitted(), cached=True, execution=OFTEN))
    run_it = ("run", sweep, "--root", runs)
    done = interrupted(
        *run_it, cwd=tmp_path, at="micronet_search.trial.views:Viewing.advance", call=5
    )
    assert done.code == 130, done
    assert "paused after epoch" in done.out
    assert not any((runs / "teachers").glob("*/views.safetensors"))
    assert cli("run", sweep, "--root", runs, cwd=tmp_path).code == 0
    assert_whole(read(runs, "paused"), trials=2)


def test_a_trial_of_another_study_has_its_soft_targets_cached(tmp_path: Path, runs: Path) -> None:
    """Under the root's teachers: the trial's folder is another driver's."""
    run(tmp_path, runs, tiny("school", search__trials=1))
    before = {path.name for path in Root(runs).study("school").trial(0).path.iterdir()}
    out = run(tmp_path, runs, taught("pupils", {"study": "school", "trial": 0}, cached=True))
    assert out.count("waits for its soft targets to be made") == 1
    (folder,) = (runs / "teachers").iterdir()
    assert {path.name for path in folder.iterdir()} == {"views.safetensors"}
    assert {path.name for path in Root(runs).study("school").trial(0).path.iterdir()} == before
    assert_whole(read(runs, "pupils"), trials=2)


def test_soft_targets_that_fail_end_the_study(tmp_path: Path, runs: Path) -> None:
    """Every candidate learns from them; those with a teacher that computes along go on."""
    broken = Fault("micronet_search.trial.views:Viewing._see", 1, MemoryError("none"), lasts=True)
    sweep = write(tmp_path / "all.yaml", taught("all", fitted(), cached=True))
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=broken).wait()
    assert "failed: MemoryError: none" in done.error

    tree = taught("some", fitted(), search__seed=1)
    tree["candidate"]["distillation"]["cached"] = {"choices": [False, True]}
    tree["search"] = {"trials": 6, "sampler": {"name": "random"}, "seed": 1}
    sweep = write(tmp_path / "some.yaml", tree)
    done = Command("run", sweep, "--root", runs, cwd=tmp_path, kill=broken).wait()
    assert done.code == 0, done
    left = read(runs, "some")
    cached = {t.number for t in left.optuna if t.params["distillation.cached"]}
    assert 0 < len(cached) < 6
    for number, outcome in left.outcomes.items():
        assert outcome.state == ("failed" if number in cached else "complete")
        assert number not in cached or "the soft targets of the teacher" in (outcome.reason or "")


def test_soft_targets_of_too_many_images_are_told() -> None:
    fits, beyond = Fingerprint("a", (500,) * 100), Fingerprint("b", (12_000,) * 30)
    assert soft_targets.too_large(fits) is None
    assert soft_targets.too_large(beyond) == (
        "distillation.cached: found 1,080,000,000 bytes of soft targets for 50 views of each "
        "training image, expected at most 536,870,912"
    )
