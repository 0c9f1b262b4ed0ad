"""The worked examples of docs/extending.md, put into a copy of the package and run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import micronet_search

PACKAGE = Path(micronet_search.__file__).parent
PAGE = PACKAGE.parent / "docs" / "extending.md"
BLOCK = re.compile(r"^```(python|diff|yaml) ([\w./-]+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)


def blocks() -> list[tuple[str, str, str]]:
    """The kind, the file and the text of each example, in their order."""
    return BLOCK.findall(PAGE.read_text())


def apply(folder: Path) -> None:
    """Adds the new files to a copy of the package, and makes the changes in the others."""
    for kind, name, text in blocks():
        path = folder / name
        if kind != "diff":
            assert not path.exists(), f"{name} is no new file"
            path.write_text(text)
            continue
        lines = text.splitlines(keepends=True)
        for hunk in "".join(lines).split("...\n"):
            rows = hunk.splitlines(keepends=True)
            old = "".join(row[1:] for row in rows if row[0] in " -")
            new = "".join(row[1:] for row in rows if row[0] in " +")
            content = path.read_text()
            assert content.count(old) == 1, f"{name} does not have these lines once:\n{old}"
            path.write_text(content.replace(old, new))


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extended")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "micronet_search", ignore=ignored)
    apply(folder)
    return folder


def run(folder: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "micronet_search", *arguments]
    environment = os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_example_touches_two_files_of_the_package_at_most() -> None:
    _, *parts = SECTION.split(PAGE.read_text())
    for title, text in zip(parts[::2], parts[1::2], strict=True):
        files = {name for _, name, _ in BLOCK.findall(text) if name.endswith(".py")}
        assert len(files) <= 2, (title, files)


def test_a_study_with_every_example_runs_and_its_best_network_is_shipped(
    extended: Path, database: Path
) -> None:
    (extended / "mlruns").mkdir()
    shutil.copy(database, extended / "mlruns" / "mlflow.db")
    run(extended, "check", "extended.yaml")
    out = run(extended, "run", "extended.yaml")
    assert "2 of 2 trials" in out
    kept = extended / "mlruns" / "studies" / "extended" / "trials" / "0000"
    candidate = yaml.safe_load((kept / "candidate.yaml").read_text())
    assert candidate["network"]["family"] == "vgg"
    assert "clip" in (kept / "curve.csv").read_text()
    assert "imt-with-masks" in (kept / "outcome.json").read_text()
    run(extended, "export", "extended", "--best")
    card = (extended / "exports" / "extended").glob("*/README.md")
    assert "weights beyond" in next(card).read_text()
