"""Studies side by side: the strictest goals, hypervolumes counted by hand, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from studies import cli

from micronet_search.report import compare as comparing
from micronet_search.report.view import read
from micronet_search.store.paths import Root

TINY = [(0.5, 0.004), (0.7, 0.006), (0.3, 0.003)]
OTHER = [(0.6, 0.004), (0.65, 0.008), (0.9, 0.02)]


def change(root: Path, study: str, file: str, **changes: Any) -> None:
    """Changes a YAML file of a study; a change names a dotted path."""
    path = root / "studies" / study / file
    tree = yaml.safe_load(path.read_text())
    for key, value in changes.items():
        *above, last = key.split("__")
        node = tree
        for part in above:
            node = node[part]
        node[last] = value
    path.write_text(yaml.safe_dump(tree))


def rewrite(root: Path, name: str, figures: list[tuple[float, float]]) -> None:
    for number, (accuracy, score) in enumerate(figures):
        path = root / f"studies/{name}/trials/{number:04d}/outcome.json"
        tree = json.loads(path.read_text())
        tree["accuracy"], tree["scores"]["imt"]["score"] = accuracy, score
        path.write_text(json.dumps(tree))


@pytest.fixture
def pair(finished: Path, tmp_path: Path) -> Path:
    """A root with `tiny` and `other`, whose accuracies and scores are those above."""
    root = tmp_path / "runs"
    for name in ("tiny", "other"):
        shutil.copytree(finished / "studies/tiny", root / "studies" / name)
    change(root, "other", "sweep.yaml", name="other")
    change(root, "other", "sweep.yaml", objectives__accuracy__at_least=0.4)
    change(root, "other", "sweep.yaml", objectives__score__at_most=0.02)
    rewrite(root, "tiny", TINY)
    rewrite(root, "other", OTHER)
    return root


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def compared(root: Path) -> comparing.Comparison:
    return comparing.compare([read(Root(root), name) for name in ("tiny", "other")])


def test_all_are_judged_by_the_strictest_goals(pair: Path) -> None:
    found = compared(pair)
    assert found.goals.accuracy.at_least == 0.4
    assert found.goals.score.at_most == 0.01
    assert found.judged_by == (
        "all are judged by the strictest goals: accuracy >= 0.4, imt score <= 0.01"
    )
    tiny, other = found.surveys
    assert (tiny.front, tiny.best_score) == ((0, 1), 0.004)
    assert (other.front, other.best_score) == ((0, 1), 0.004)
    # (0.5 - 0.4) * (0.01 - 0.004) + (0.7 - 0.5) * (0.01 - 0.006), and likewise
    assert tiny.hypervolume == pytest.approx(0.0014)
    assert other.hypervolume == pytest.approx(0.0013)
    assert found.joint_front() == {("other", 0), ("tiny", 1)}


def test_a_latency_counts_where_all_have_a_goal_for_it(pair: Path) -> None:
    change(pair, "tiny", "sweep.yaml", objectives__latency={"at_most": 3})
    found = compared(pair)
    assert found.goals.latency is None
    assert "not by the latency" in found.judged_by
    change(pair, "other", "sweep.yaml", objectives__latency={"at_most": 2})
    found = compared(pair)
    assert found.judged_by.endswith("latency <= 2 ms")


@pytest.mark.parametrize("kind", ["svg", "pdf", "png"])
def test_the_tables_and_the_picture(pair: Path, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"fronts.{kind}"
    before = times(pair)
    comparing.write_picture(compared(pair), file)
    head = {"svg": b"<?xml", "pdf": b"%PDF", "png": b"\x89PNG"}[kind]
    assert file.read_bytes().startswith(head)
    if kind != "svg":
        return
    done = cli("compare", "tiny", "other", "--root", pair, cwd=tmp_path)
    rows = [line.split() for line in done.out.splitlines()]
    assert times(pair) == before
    (tiny,) = [row for row in rows if row[:2] == ["tiny", "3"]]
    assert tiny[:7] == ["tiny", "3", "2", "2", "1", "0.004000", "0.0014"]
    assert ["other", "0", "0.6000", "0.004000", "*"] in rows
    assert ["tiny", "0", "0.5000", "0.004000"] in rows


def test_what_cannot_be_compared_is_refused(pair: Path, tmp_path: Path) -> None:
    def error() -> str:
        with pytest.raises(ValueError, match="expected") as caught:
            compared(pair)
        return str(caught.value)

    with pytest.raises(ValueError, match="two or more different studies"):
        comparing.compare([read(Root(pair), "tiny")] * 2)
    with pytest.raises(ValueError, match=r"'\.gif', expected one of \.svg, \.pdf, \.png"):
        comparing.write_picture(compared(pair), tmp_path / "fronts.gif")
    change(pair, "other", "sweep.yaml", objectives__score__rule="micronet2019")
    assert error() == (
        "tiny and other are scored by imt and micronet2019, expected studies of one score rule"
    )
    change(pair, "other", "sweep.yaml", objectives__score__rule="imt")
    path = pair / "studies/other/dataset.json"
    tree = json.loads(path.read_text())
    tree["validation"] = tree["test"]
    path.write_text(json.dumps(tree))
    assert error().startswith("tiny and other are judged on other images, of digits and of digits")
