"""A study that begins with the front of another one and continues its networks."""

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import Command, Kill, assert_same, assert_whole, cli, read, tiny, write

NETWORK = {
    "family": "densenet",
    "stem": {"width": 8},
    "growth_rate": {"choices": [4, 6, 8, 10, 12]},
    "layers": [2, 1],
    "bottleneck": 2,
}
OFTEN = {"checkpoint_minutes": 1e-6}
"""A checkpoint after every epoch."""


def wide(**changes: Any) -> dict[str, Any]:
    """Short and without techniques; nothing reaches its goal."""
    tree = tiny("wide", search__trials=4, objectives__accuracy__at_least=0.999, **changes)
    candidate = tree["candidate"]
    candidate["network"], candidate["pruning"], candidate["quantization"] = NETWORK, None, None
    candidate["training"] |= {"epochs": 8, "learning_rate": {"choices": [0.01, 0.02]}}
    return tree


def narrow(name: str = "narrow", start: Any = "wide", **changes: Any) -> dict[str, Any]:
    tree = tiny(name, search__start_from=start, search__seed=5, **changes)
    tree["candidate"]["network"] = NETWORK
    tree["candidate"]["training"] |= {"epochs": 10, "learning_rate": {"choices": [0.01, 0.005]}}
    return tree


def run(folder: Path, root: Path, tree: dict[str, Any], *options: object) -> str:
    sweep = write(folder / f"{tree['name']}.yaml", tree)
    done = cli("run", sweep, "--root", root, *options, cwd=folder)
    assert done.code == 0, done
    return done.out


def refusal(folder: Path, root: Path, tree: dict[str, Any]) -> str:
    sweep = write(folder / f"{tree['name']}.yaml", tree)
    return cli("run", sweep, "--root", root, cwd=folder).error


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, database: Path) -> Path:
    """A root with the study `wide`. Not to be written to."""
    folder = tmp_path_factory.mktemp("wide")
    shutil.copy(database, folder / "mlflow.db")
    run(folder, folder, wide())
    return folder


@pytest.fixture
def root(tmp_path: Path, begun: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "runs"))


def candidates(root: Path, name: str) -> dict[int, dict[str, Any]]:
    return {n: yaml.safe_load(text) for n, text in read(root, name).candidates.items()}


def leaders(root: Path) -> list[int]:
    """The complete trials of `wide` that no other dominates, by rising score."""
    points = {
        number: (found.accuracy or 0.0, found.scores["imt"]["score"])
        for number, found in read(root, "wide").outcomes.items()
    }
    found = [
        number
        for number, (accuracy, score) in points.items()
        if not any(
            a >= accuracy and s <= score and (a, s) != (accuracy, score) for a, s in points.values()
        )
    ]
    return sorted(found, key=lambda number: points[number][1])


def test_the_front_is_tried_first_and_its_networks_continued(tmp_path: Path, root: Path) -> None:
    front, earlier = leaders(root), candidates(root, "wide")
    run(tmp_path, root, narrow(search__trials=(count := len(front) + 2)))
    left = read(root, "narrow")
    assert_whole(left, trials=count)
    stored = yaml.safe_load(left.root.study("narrow").sweep.read_text())["search"]["start_from"]
    assert stored == {"study": "wide", "trials": front}

    found, before = candidates(root, "narrow"), read(root, "wide").outcomes
    for number, source in zip(range(len(front)), front, strict=True):
        assert found[number]["network"] == earlier[source]["network"]
        rate = earlier[source]["training"]["learning_rate"]
        expected = {"epochs": 10, "learning_rate": 0.01 if rate == 0.02 else rate}
        assert found[number]["training"] == earlier[source]["training"] | expected
        assert found[number]["pruning"]["sparsity"] == 0.2  # the lowest: there was none before
    for number, candidate in found.items():
        sources = [s for s in front if earlier[s]["network"] == candidate["network"]]
        if not sources:
            assert candidate["start"] is None
            continue
        source = max(sources, key=lambda s: before[s].curve[7].accuracy)
        assert candidate["start"] == {"study": "wide", "trial": source}
        assert left.outcomes[number].curve[0].accuracy > before[source].curve[0].accuracy + 0.25


def test_a_break_changes_nothing_while_the_other_study_goes_on(tmp_path: Path, root: Path) -> None:
    tree = narrow(search__trials=len(leaders(root)), execution=OFTEN)
    other = Path(shutil.copytree(root, tmp_path / "other"))
    run(tmp_path, other, tree)
    sweep = write(tmp_path / "narrow.yaml", tree)
    kill = Kill("micronet_search.trial.trial:Trial.advance", "after", 5)
    command = Command("run", sweep, "--root", root, cwd=tmp_path, kill=kill)
    assert command.wait().code == -signal.SIGKILL
    run(tmp_path, root, wide(), "--trials", 12)
    run(tmp_path, root, tree)
    assert_same(read(root, "narrow"), read(other, "narrow"))
    assert all(each["start"] for each in candidates(root, "narrow").values())


def test_a_network_that_the_sweep_does_not_draw_is_left_out(tmp_path: Path, root: Path) -> None:
    front, earlier = leaders(root), candidates(root, "wide")
    tree = narrow(search__trials=1)
    left_out = {n: earlier[n]["network"]["growth_rate"] for n in front[:-1]}
    kept = earlier[front[-1]]["network"]["growth_rate"]
    tree["candidate"]["network"] = NETWORK | {"growth_rate": kept}
    out = " ".join(run(tmp_path, root, tree).split())
    for number, rate in left_out.items():
        reason = f"network.growth_rate: found {rate}, expected {kept}"
        assert (f"start_from: trial {number} of wide is left out: {reason}" in out) == (
            rate != kept
        )
    assert candidates(root, "narrow")[0]["start"]["study"] == "wide"


def test_trials_can_be_named(tmp_path: Path, root: Path) -> None:
    run(tmp_path, root, narrow(start={"study": "wide", "trials": [3]}, search__trials=1))
    (found,) = candidates(root, "narrow").values()
    assert found["start"] == {"study": "wide", "trial": 3}


def test_a_start_that_cannot_be_is_told(tmp_path: Path, root: Path) -> None:
    error = refusal(tmp_path, root, narrow(start="wild"))
    assert "start_from: no study wild under" in error
    assert error.endswith("expected one of: wide")
    error = refusal(tmp_path, root, narrow(start="narrow"))
    assert error == "start_from: found narrow, this study, expected another one"
    error = refusal(tmp_path, root, narrow(start={"study": "wide", "trials": [99]}))
    assert "studies/wide/trials/0099/candidate.yaml: " in error
    images = {"name": "digits", "validation": 100, "limit": 301}
    error = refusal(tmp_path, root, narrow(dataset=images))
    assert "of the study wide: found that it was trained on other images" in error
    source = leaders(root)[0]
    (root / f"studies/wide/trials/{source:04d}/fitted.safetensors").unlink()
    assert f"trial {source} of the study wide: found no" in refusal(tmp_path, root, narrow())
    assert {path.name for path in (root / "studies").iterdir()} == {"wide"}


def test_a_study_without_complete_trials_is_no_start(tmp_path: Path, runs: Path) -> None:
    tree = wide(objectives__score__at_most=1e-9)
    run(tmp_path, runs, tree)
    error = refusal(tmp_path, runs, narrow())
    assert error == "start_from: found no complete trial in wide, expected one"


def test_the_start_cannot_be_changed(tmp_path: Path, root: Path) -> None:
    run(tmp_path, root, narrow(search__trials=1))
    sweep = write(tmp_path / "narrow.yaml", narrow(start=None, search__trials=2))
    done = cli("run", sweep, "--root", root, cwd=tmp_path)
    assert done.code == 2
    assert "-    study: wide" in done.err


def test_a_start_in_the_candidate_itself(tmp_path: Path, root: Path) -> None:
    """A trial whose network is damaged, another's or missing fails, and says why."""
    file = root / "studies/wide/trials/0001/fitted.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    tree = narrow("own", None, search__trials=6, execution={"retries": 0})
    tree["candidate"]["start"] = {"study": "wide", "trial": {"choices": [0, 1, 7]}}
    tree["candidate"]["network"] = candidates(root, "wide")[0]["network"]
    run(tmp_path, root, tree)
    left = read(root, "own")
    seen = set()
    for number, candidate in candidates(root, "own").items():
        outcome, source = left.outcomes[number], candidate["start"]["trial"]
        seen.add(source)
        if source == 0:
            assert outcome.state == "complete"
        else:
            reason = {1: "does not fit: the checkpoint is damaged", 7: "found no"}[source]
            assert outcome.state == "failed"
            assert reason in (outcome.reason or "")
    assert seen == {0, 1, 7}
