"""MLflow's record of a study after someone has tampered with it, or with the study's folder."""

import re
from pathlib import Path
from typing import Any

from studies import cli, tiny, write

LONGEST = "größer als 1 "
LONGEST += "_" * (250 - len(f"pruning.{LONGEST}.sparsity"))
"""The longest name of a branch that MLflow takes, and all sorts of characters."""


def pruning(name: str) -> dict[str, Any]:
    return {"one_of": {name: {"sparsity": {"low": 0.2, "high": 0.8, "step": 0.1}, "epochs": 1}}}


def test_a_branch_whose_name_mlflow_does_not_take_is_refused_by_check(tmp_path: Path) -> None:
    for name in ("res+se", "a,b", LONGEST + "x"):
        sweep = write(tmp_path / "sweep.yaml", tiny(candidate__pruning=pruning(name)))
        found = cli("check", sweep, cwd=tmp_path).error
        assert re.match(rf"{sweep}:\d+:\d+: candidate\.pruning\.one_of\.", found), found
        assert re.search("expected (letters, digits, spaces, - and _|at most 250)", found), found
