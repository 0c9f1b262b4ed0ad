"""The reference of the sweep file: a page of Markdown that is made from the models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any

from micronet_search.config.model import JsonSchema
from micronet_search.config.schema import alternatives, plain_models
from micronet_search.config.words import bounds, kind, name_of

COLUMNS = ("key", "type", "default", "range", "meaning")
SEARCHED = "how a value is searched"
DEEPEST = 4
"""The level of the smallest headings."""


@dataclass(frozen=True)
class Section:
    """A part of the page: a model with the table of its fields, or a union of models.

    Attributes:
        title: The heading, which is where it stands in a sweep or what tells it apart there.
        level: How deep the heading is.
        text: The first sentences.
        fields: The JSON schemas of the model's fields; none for a union.
        required: The fields without a default.
        searched: Whether the values may be distributions.
    """

    title: str
    level: int
    text: str
    fields: JsonSchema
    required: tuple[str, ...]
    searched: bool


def sweep_page() -> str:
    """Returns the page."""
    prose, page = read_prose(), _Page()
    lines = [prose["introduction"]]
    for section in page.sections:
        lines += page.lines(section)
        if example := prose.get(section.title.replace("`", "")):
            lines += ["```yaml", example.rstrip(), "```", ""]
        if section.title == "`candidate`":
            lines += ["### " + SEARCHED.capitalize(), "", prose[SEARCHED]]
    return "\n".join(lines).rstrip() + "\n"


def read_prose() -> dict[str, str]:
    """Returns what the models do not say: the introduction, and examples by their sections."""
    import yaml

    file = resources.files("micronet_search.report").joinpath("reference.yaml")
    found: dict[str, str] = yaml.safe_load(file.read_text("utf-8"))
    return found


class _Page:
    """The sections, in the order of a sweep's file, and where each model is described.

    A model that stands in several places is described once, below `candidate` where it is there.
    """

    def __init__(self) -> None:
        self._models = plain_models()
        self._titles: dict[str, str] = {}
        """The headings under which models are described, by their names."""
        self._candidate = list(self._model("Candidate", "candidate", 2))
        self.sections = list(self._model("Sweep", "", 2))

    def _model(self, name: str, path: str, level: int) -> Iterator[Section]:
        title = f"`{path}`" if path else "The file"
        self._titles.setdefault(name, title)
        model = next(alternatives(self._models[name]))
        text, required = self._models[name]["description"], tuple(model.get("required", ()))
        fields = model["properties"]
        yield Section(title, level, text, fields, required, path.startswith("candidate"))
        for key, field in fields.items():
            yield from self._below(field, f"{path}.{key}".lstrip("."), level + bool(path))

    def _below(self, field: JsonSchema, path: str, level: int) -> Iterator[Section]:
        """Yields the sections of the models that a field can have, unless they have one."""
        names = [name for name in _models_of(field) if name not in self._titles]
        if path == "candidate":
            yield from self._candidate
        elif len(names) == 1:
            yield from self._model(names[0], path, level)
        elif names:
            yield from self._union(field["description"], names, path, level)

    def _union(self, text: str, names: list[str], path: str, level: int) -> Iterator[Section]:
        self._titles |= dict.fromkeys(names, f"`{path}`")
        yield Section(f"`{path}`", level, f"{text} These are the mappings:", {}, (), False)
        parts = [list(self._model(name, path, level + 1)) for name in names]
        for section, *_ in parts:
            key = next(key for key, found in section.fields.items() if "const" in found)
            yield replace(section, title=f"`{key}: {section.fields[key]['const']}`")
        for _, *below in parts:
            yield from below

    def lines(self, section: Section) -> Iterator[str]:
        """Yields the lines of a section."""
        yield from (f"{'#' * min(section.level, DEEPEST)} {section.title}", "", section.text)
        if section.searched:
            yield f"Every value here can be [searched](#{slug(SEARCHED)})."
        yield ""
        if section.fields:
            yield from (_row(COLUMNS), _row(["---"] * len(COLUMNS)))
            for key, field in section.fields.items():
                default = "required" if key in section.required else self._default(field)
                yield _row([f"`{key}`", self._type(field), default, _range(field), _meaning(field)])
            yield ""

    def _type(self, field: JsonSchema) -> str:
        found = list(self._alternatives(field))
        texts = [
            "list of these" if value.get("items") in found else self._value(value)
            for value in found
        ]
        return " or ".join(dict.fromkeys(texts))

    def _alternatives(self, field: JsonSchema) -> Iterator[JsonSchema]:
        """Yields what a field can be, and what can be written in the place of its models."""
        for value in alternatives(field):
            yield value
            if "$ref" in value:
                _, *short = alternatives(self._models[name_of(value)])
                yield from short

    def _value(self, value: JsonSchema) -> str:
        if "$ref" in value:
            return f"[mapping](#{slug(self._titles[name_of(value)])})"
        if named := value.get("patternProperties"):
            inner = " or ".join(self._value(one) for one in named.values())
            return f"mapping with a {inner} for each name"
        if "enum" in value or "const" in value:
            return ", ".join(f"`{one}`" for one in value.get("enum", [value.get("const")]))
        if value["type"] == "array":
            items = self._value(value["items"])
            return f"list of {items}s" if items.endswith("number") else f"list of {items}"
        return "`null`" if value["type"] == "null" else kind(value)

    def _default(self, field: JsonSchema) -> str:
        default = field.get("default")
        if isinstance(default, dict):
            names = [name for value in alternatives(field) for name in value.get("enum", ())]
            return f"`{default['name']}`" if default.get("name") in names else "its defaults"
        if "default" not in field:  # it is made anew each time
            return "`{}`"
        return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def slug(title: str) -> str:
    """Returns the anchor that a heading has on a page."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _models_of(field: JsonSchema) -> list[str]:
    found = [
        one
        for value in alternatives(field)
        for one in (value, *value.get("patternProperties", {}).values())
    ]
    return [name_of(one) for one in found if "$ref" in one]


def _range(field: JsonSchema) -> str:
    found = [bounds(value) for value in alternatives(field)]
    # That of a list has that of its items.
    told = [text for text in found if not any(other.startswith(f"{text},") for other in found)]
    return "; ".join(dict.fromkeys(filter(None, told)))


def _meaning(field: JsonSchema) -> str:
    since = f" Since {field['since']}." if "since" in field else ""
    return f"{field.get('description', '')}{since}"


def _row(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
