"""What the package imports, and what it says that it needs."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]


def imported() -> set[str]:
    """The top-level modules that the package imports anywhere, without Python's own and its own."""
    names: set[str] = set()
    for path in (ROOT / "micronet_search").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names.add((node.module or "").split(".")[0])
    return names - sys.stdlib_module_names - {"micronet_search"}


def named(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^\w.-]", text)[0]) for text in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_what_is_imported_is_declared_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = named([*project["dependencies"], *project["optional-dependencies"]["ray"]])
    known = packages_distributions()
    # several distributions may share a module: mlflow has three
    providers = {name: set(map(normal, known[name])) for name in imported()}
    assert {name for name, found in providers.items() if not found & declared} == set()
    assert declared - set().union(*providers.values()) == set()


def test_every_dependency_has_a_reason_and_a_pinned_version() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    lines = text.split("\ndependencies = [\n")[1].split("\n]")[0].splitlines()
    assert all(re.fullmatch(r' +"[^"]+", +# .+', line) for line in lines)
    pinned = named((ROOT / "constraints.txt").read_text().splitlines())
    project = tomllib.loads(text)["project"]
    assert named(project["dependencies"]) <= pinned
