"""The front with the choices that differ, and whether a study runs."""

import io
import shutil
from pathlib import Path

import pytest
from rich.console import Console
from studies import cli

from micronet_search.report.tables import FrontTable, differing, flat
from micronet_search.report.view import View, read
from micronet_search.store.files import write_json
from micronet_search.store.owner import driver_lock, is_running
from micronet_search.store.paths import Root

CHOICES = {
    3: {"network.layers": "[1, 1]", "pruning.sparsity": 0.25, "training.epochs": 3},
    5: {"network.layers": "[2, 1]", "pruning.sparsity": 0.5, "training.epochs": 3},
    7: {"network.layers": "[2, 1]", "training.epochs": 3},
}


@pytest.fixture
def view(finished: Path) -> View:
    return read(Root(finished), "tiny")


def shown(view: View, width: int) -> str:
    figures = {"accuracy": 0.5, "score": 0.01, "parameters": 1, "nonzeros": 1, "macs": 1}
    written = io.StringIO()
    rows = [{"trial": number, **figures} for number in CHOICES]
    Console(file=written, width=width).print(FrontTable(view, rows, CHOICES))
    return written.getvalue()


def test_the_choices_that_differ() -> None:
    assert differing(CHOICES) == ["network.layers", "pruning.sparsity"]
    assert differing({3: CHOICES[3]}) == []
    assert differing({}) == []


def test_as_many_choices_as_fit_are_columns(view: View) -> None:
    wide = shown(view, 120).splitlines()
    assert wide[1].split()[-2:] == ["layers", "sparsity"]
    assert [line.split()[-1] for line in wide[2:]] == ["0.25", "0.5", "-"]
    assert len(wide) == 5
    # trial, accuracy, score (imt), parameters, nonzeros and MACs take 51 letters with their spaces
    some = shown(view, 64)
    assert "layers" in some.splitlines()[1]
    assert some.splitlines()[-1].startswith("choices that differ too: sparsity")
    few = " ".join(shown(view, 56).split())
    assert few.endswith("choices that differ too: layers, sparsity (--format csv has them)")
    for width in (56, 64, 80, 120):
        assert all(len(line) <= width for line in shown(view, width).splitlines())


def test_leaves_by_their_paths() -> None:
    assert flat({"a": 1, "b": {"c": {"d": 2}, "e": 3}}) == {"a": 1, "b.c.d": 2, "b.e": 3}


def test_a_storage_that_cannot_be_read_leaves_the_front(finished: Path, tmp_path: Path) -> None:
    root = shutil.copytree(finished, tmp_path / "runs")
    (root / "studies/tiny/optuna.journal").unlink()
    done = cli("front", "tiny", "--root", root, cwd=tmp_path)
    assert done.code == 0
    assert "front of tiny" in done.out
    assert done.err.startswith("warning: the choices are left out: found no ")


def test_running_paused_or_finished(view: View, finished: Path, tmp_path: Path) -> None:
    root = Root(tmp_path / "runs")
    shutil.copytree(finished / "studies", root.path / "studies")
    folder = root.study("tiny")
    assert read(root, "tiny").state == "finished"
    with driver_lock(folder):
        assert read(root, "tiny").state == "running"
        assert is_running(folder)
    assert not is_running(folder)
    head, line = cli("status", "--root", root.path, cwd=tmp_path).out.splitlines()
    assert line.split()[:5] == ["tiny", "finished", "3/3", "3", str(len(view.survey.front))]
    titles = ["study", "state", "trials", "complete", "front", "best", "score", "hypervolume"]
    assert head.split() == titles
    for content in ({"environment": {}, "finished": None}, {"odd": 1}):
        write_json(folder.start, content)
        assert read(root, "tiny").state == "paused"
    assert not is_running(root.study("none"))
