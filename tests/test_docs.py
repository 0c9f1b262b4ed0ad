"""The pages of the documentation: links, images, commands and sweeps that they name exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main

from micronet_search import cli

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GROUP: Any = typer.main.get_command(cli.app)
COMMANDS = GROUP.commands

FENCE = re.compile(r"^ *```.*?^ *```$", re.M | re.S)
CODE = re.compile(r"`[^`\n]+`")
PIECE = re.compile(FENCE.pattern + r"|`[^`\n]+`|^    [^\n]+$", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CALL = re.compile(r"micronet-search ((?:(?!micronet-search )(?:\\\n|[^\n`]))+)")
OPTION = re.compile(r"--[a-z][a-z-]*")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for title in re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.M):
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found[slug] = found.get(slug, 0) + 1
    return {f"{slug}-{i}" if i else slug for slug, count in found.items() for i in range(count)}


def options(command: str) -> set[str]:
    return {name for option in COMMANDS[command].params for name in option.opts} | {"--debug"}


def calls(text: str) -> list[tuple[str, set[str]]]:
    """The command lines in the code of a text: each command with the options behind it."""
    found = []
    for line in CALL.findall("\n".join(PIECE.findall(text))):
        command, *rest = re.split(r"&&|[|;#]", line, maxsplit=1)[0].split()
        if command.isalpha() and command.islower():
            found.append((command, {*OPTION.findall(" ".join(rest))}))
    return found


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE.sub("code", FENCE.sub("", page.read_text()))):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_and_sweeps_are_there(page: Path) -> None:
    text = page.read_text()
    for command, given in calls(text):
        assert command in COMMANDS
        assert given <= options(command), command
    for sweep in re.findall(r"\bsweeps/[\w-]+\.\w+", text):
        assert (ROOT / sweep).exists(), sweep


def test_the_readme_lists_every_command() -> None:
    rows = re.findall(r"^\| `(\w+)([^`]*)` \|", (ROOT / "README.md").read_text(), re.M)
    assert {command for command, _ in rows} == set(COMMANDS)
    for command, rest in rows:
        assert {*OPTION.findall(rest)} <= options(command), command


def test_every_page_is_in_the_table_of_contents() -> None:
    listed = set(LINK.findall((ROOT / "docs/README.md").read_text()))
    assert {page.name for page in PAGES} - {"README.md"} <= listed


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_no_page_names_the_address_of_a_package_registry(page: Path) -> None:
    registries = r"\b(?:pypi|pythonhosted|npmjs|anaconda)\.\w"
    assert not re.search(registries, page.read_text(), re.I)


def test_what_these_tests_find(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A `b`, c\n\n```sh\n# no\n```\n\n## Two\n\n## Two\n")
    assert anchors(page) == {"a-b-c", "two", "two-1"}
    text = "```sh\nmicronet-search run x.yaml \\\n  --trials 3 && micronet-search ui # --not\n```\n"
    text += "micronet-search on `micronet-search front S --at-least 1` --later"
    assert calls(text) == [("run", {"--trials"}), ("ui", set()), ("front", {"--at-least"})]
